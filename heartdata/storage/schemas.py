"""The Arrow schema of every manifest, checked on each write and read.

Units are in the names. Fields marked as not digested (where something lies on this machine, how long it took) are
left out of content digests, so that moving a folder changes no data set version.
"""

import pyarrow as pa

S, F, N, B = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _not_digested(name: str, kind: pa.DataType = S) -> pa.Field:
    return pa.field(name, kind, metadata={"digested": "no"})


def _schema(*fields: tuple[str, pa.DataType] | pa.Field) -> pa.Schema:
    return pa.schema([f if isinstance(f, pa.Field) else pa.field(*f) for f in fields])


# One row a recording that the source names, whether or not its file can be used.
RECORDINGS = _schema(
    (
        "recording_id",
        S,
    ),  # unique, stable from night to night: the path inside the source
    _not_digested("uri"),
    ("sha256", S),  # of the file's bytes; null when there is no file
    ("size_bytes", N),
    ("source", S),
    ("collection", S),  # a database or set inside the source
    ("subject", S),  # null when the source does not know
    ("site", S),  # where on the chest, or null
    ("label", S),  # null = unlabelled
    ("missing", S),  # why there is no file; null when there is one
    ("extra", S),  # JSON: whatever else the source says
)

SUBJECT_AS_WRITTEN = "subject_in_table"  # in ``extra``: the row's own spelling, where most rows have another

# What the inventory remembers of files, by path: see heartdata.storage.hash_cache.
HASH_CACHE = _schema(
    ("uri", S), ("size_bytes", N), ("inode", N), ("mtime_ns", N), ("ctime_ns", N), ("sha256", S), ("settled", B)
)

# One row a distinct file content.
FACTS = _schema(
    ("sha256", S),
    ("error", S),  # why it cannot be decoded; the other facts are then null
    ("format", S),
    ("rate_hz", N),
    ("channels", N),
    ("frames", N),
    ("duration_s", F),
    ("missing_fraction", F),  # of the frames that the header declares
    ("peak", F),  # full scale = 1
    ("rms", F),
    ("dc_offset", F),
    ("clipped_fraction", F),
    ("silent_fraction", F),
    ("finite", B),
    ("periodicity", F),  # 0-1, see heartdata.audio.quality.periodicity
    ("quality", F),  # 0-1, see heartdata.audio.quality
    ("fingerprint", pa.binary()),  # finds near-duplicates, see heartdata.checks.near_duplicates
    ("samples_sha256", S),  # of the decoded samples: finds copies with other headers
)

ACCEPTED = _schema(
    ("recording_id", S),
    ("sha256", S),
    ("source", S),
    ("collection", S),
    ("subject", S),
    ("site", S),
    ("label", S),
    ("rate_hz", N),
    ("channels", N),
    ("duration_s", F),
    ("peak", F),
    ("rms", F),
    ("periodicity", F),
    ("quality", F),
    ("samples_sha256", S),
    ("near_group", S),  # JSON list of the subjects that have a sound in common; null for the rest
    ("warnings", S),  # names of failed checks of severity warning, comma separated
)

QUARANTINE = _schema(
    ("recording_id", S),
    ("source", S),
    ("label", S),
    ("check", S),  # the first failed check of severity critical
    ("reason", S),  # in words that a person can act on, every failed check in it
)

CHECKS = _schema(
    ("check", S),
    (
        "level",
        S,
    ),  # recording (of a source with bounds of its own: recording NAME) | subject | table | change | reference
    ("severity", S),  # critical | warning
    ("passed", B),
    ("failing", N),  # recordings, subjects or quantities
    ("wanted", S),
    ("observed", S),  # where it is one value
    ("reason", S),
)

# Words for the parts of a split, in folders' names and users' columns, to the value of SPLITS.
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SPLITS = _schema(
    ("recording_id", S),
    ("sha256", S),
    ("group", S),
    ("label", S),
    ("part", S),
    ("fold", N),  # null unless the strategy is k_fold
)

# One row a distinct file content; rows start..start+frames of the shard are its spectrogram.
SPECTROGRAMS = _schema(("sha256", S), ("shard", S), ("shard_sha256", S), ("start", N), ("frames", N))

# What training sees, one row a recording. Its content digest is the data set version.
MANIFEST = _schema(
    ("recording_id", S),
    ("sha256", S),
    ("source", S),
    ("collection", S),
    ("subject", S),
    ("group", S),
    ("site", S),
    ("label", S),
    ("part", S),  # train | valid | test | unlabelled
    ("fold", N),  # null unless the split is by k_fold
    ("rate_hz", N),
    ("channels", N),
    ("duration_s", F),
    ("peak", F),
    ("rms", F),
    ("shard", S),
    ("shard_sha256", S),
    ("start", N),
    ("frames", N),
)

# One row a distinct sound that the weights of a model were trained on, see heartdata.dataset.provenance.
TRAINED_ON = _schema(
    ("sha256", S),
    ("samples_sha256", S),
    ("fingerprint", pa.binary()),
    ("subject", S),  # source/subject, where one is known
)

HISTORY = _schema(
    ("epoch", N),
    ("train_loss", F),
    ("valid_loss", F),
    ("valid_balanced_loss", F),  # averaged within each class first
    ("valid_macro_f1", F),  # what the epoch to keep is chosen by
    ("valid_macro_f1_se", F),  # standard error, by bootstrap over the validation subjects
    ("learning_rate", F),
    ("windows_seen", N),  # since the beginning
    _not_digested("seconds", F),
    _not_digested("peak_memory_mb", F),
)

# The first model's value less this one's, and the 95 % interval of that over the same resamples of subjects.
_DIFFERENCE = (("difference", F), ("difference_low", F), ("difference_high", F))

METRICS = _schema(("model", S), ("metric", S), ("value", F), ("low", F), ("high", F), *_DIFFERENCE)


def predictions_schema(classes: list[str]) -> pa.Schema:
    """One row a held-out recording: truth, answer, and one probability a class (``p_<class>``)."""
    return _schema(
        ("recording_id", S),
        ("sha256", S),
        ("group", S),
        ("label", S),
        ("prediction", S),
        *[(f"p_{c}", F) for c in classes],
    )


def subjects_schema(classes: list[str]) -> pa.Schema:
    """One row a held-out subject whose recordings have one label: truth, and the answer to all of them together."""
    probabilities = [(f"p_{c}", F) for c in classes]
    return _schema(("subject", S), ("group", S), ("label", S), ("prediction", S), ("recordings", N), *probabilities)


def study_schema(classes: list[str]) -> pa.Schema:
    """As `predictions_schema`, for each answer of each model in a study, to a recording or to all of a patient's."""
    return _schema(
        ("arm", S),
        ("seed", N),
        ("fold", S),  # its number, or the database that was held out
        ("model", S),
        ("recording_id", S),
        ("sha256", S),
        ("group", S),
        ("subject", S),
        ("patient", S),  # who is scored: the subject, or the number he had then, where he has two
        ("collection", S),
        ("noisy", B),  # of poor signal quality, where the source says so
        ("label", S),
        ("prediction", S),
        *[(f"p_{c}", F) for c in classes],
    )


STUDY_METRICS = _schema(
    ("arm", S), ("model", S), ("metric", S),
    ("value", F),  # mean over seeds
    ("sd", F),  # over seeds; null for one seed
    ("low", F), ("high", F),  # 95 % interval by bootstrap over subjects
    *_DIFFERENCE,  # the first model is the network
)  # fmt: skip
