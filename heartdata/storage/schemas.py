"""The Arrow schema of every table in the store, checked on each write and read.

Units are in the names. Columns marked as not digested (where a file is on this machine, how long something took) are
left out of content digests, so that moving a folder changes no data set version.
"""

import pyarrow as pa

S, F, N, B = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _not_digested(name: str, kind: pa.DataType = S) -> pa.Field:
    return pa.field(name, kind, metadata={"digested": "no"})


# One row per recording that the source lists, whether or not its file can be used.
RECORDINGS = pa.schema([
    ("recording_id", S),  # unique, stable from night to night: the path inside the source
    _not_digested("uri"),
    ("sha256", S),  # of the file's bytes; null when there is no file
    ("size_bytes", N), ("source", S),
    ("collection", S),  # a database or set inside the source
    ("subject", S),  # null when the source does not know
    ("site", S),  # where on the chest, or null
    ("label", S),  # null: unlabelled
    ("missing", S),  # why there is no file; null when there is one
    ("excluded", S),  # who left it out and why, see heartdata.sources.corrections; null for the rest
    ("extra", S),  # JSON: whatever else the source says
])  # fmt: skip

SUBJECT_AS_WRITTEN = "subject_in_table"  # in ``extra``: the row's own spelling, where most rows have another

# One row per file that the inventory has hashed, see heartdata.storage.hash_cache.
HASH_CACHE = pa.schema(
    [("uri", S), ("size_bytes", N), ("inode", N), ("mtime_ns", N), ("ctime_ns", N), ("sha256", S), ("settled", B)]
)

# One row per distinct file content.
FACTS = pa.schema([
    ("sha256", S),
    ("error", S),  # why it cannot be decoded; the columns below are then null
    ("format", S), ("rate_hz", N), ("channels", N), ("frames", N), ("duration_s", F),
    ("header_fault", S),  # of a file that was read all the same; null when there is none
    ("channel", N),  # the one that was measured, from 1; 0: the mean of all
    ("channel_agreement", F),  # least correlation of two channels, see heartdata.audio.channels; null when there is one
    ("missing_fraction", F),  # of the frames that the header declares
    ("peak", F), ("rms", F), ("dc_offset", F),  # full scale = 1
    ("clipped_fraction", F), ("silent_fraction", F), ("finite", B),
    ("periodicity", F), ("quality", F),  # 0-1, see heartdata.audio.quality
    ("fingerprint", pa.binary()),  # finds near-duplicates, see heartdata.checks.near_duplicates
    ("samples_sha256", S),  # of the decoded samples: finds copies with other headers
])  # fmt: skip

# One row per two recordings of one sound, see heartdata.checks.near_duplicates.
PAIRS = pa.schema([
    ("sha256_a", S), ("sha256_b", S),  # a < b
    ("similarity", F),  # of the envelopes, -1 to 1
    ("agreement", F),  # of the codes, 0 as by chance, 1 equal
    ("offset_frames", N),  # of 20 ms: the frame of a at which b begins, as aligned best
])  # fmt: skip

CONFIRMED_PAIRS = pa.schema([
    *PAIRS,
    ("waveform", F),  # correlation where they are aligned best; null where a file could not be read
    ("confirmed", B),  # whether the waveforms are of one recording, see heartdata.checks.waveforms
    ("alike", B),  # whether they may be: the split keeps these together
])  # fmt: skip

SEARCHED = pa.schema([("sha256", S), ("fingerprint_sha256", S)])  # what a search for near-duplicates compared

ACCEPTED = pa.schema([
    ("recording_id", S), ("sha256", S), ("source", S), ("collection", S), ("subject", S), ("site", S), ("label", S),
    ("rate_hz", N), ("channels", N), ("duration_s", F), ("peak", F), ("rms", F), ("periodicity", F), ("quality", F),
    ("samples_sha256", S),
    ("near_group", S),  # JSON list of the subjects that share a recording; null for the rest
    ("warnings", S),  # names of failed checks of severity warning, comma separated
])  # fmt: skip

QUARANTINE = pa.schema([
    ("recording_id", S), ("source", S), ("label", S),
    ("check", S),  # the first failed check of severity critical
    ("reason", S),  # every failed check, in words that a person can act on
])  # fmt: skip

CHECKS = pa.schema([
    ("check", S),
    ("level", S),  # recording (or recording NAME: with bounds of that source) | subject | table | change | reference
    ("severity", S),  # critical | warning
    ("passed", B),
    ("failing", N),  # recordings, subjects or quantities
    ("wanted", S),
    ("observed", S),  # where it is one value
    ("reason", S),
])  # fmt: skip

# One row per recording: the checks of a recording by itself that it failed, so that only new or changed rows are judged.
VERDICTS = pa.schema([
    ("recording_id", S),
    ("suite", S),  # digest of the checks, with their bounds
    ("row", pa.uint64()),  # hash of the values that they look at
    ("failed", S),  # their names, comma separated
])  # fmt: skip

# Names of the parts of a split in folders and users' columns, to the value of column part.
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SPLITS = pa.schema([
    ("recording_id", S), ("sha256", S), ("group", S), ("label", S),
    ("part", S),  # train | valid | test | unlabelled
    ("fold", N),  # null unless the strategy is k_fold
])  # fmt: skip

# One row per distinct file content; rows start..start+frames of the shard are its spectrogram.
SPECTROGRAMS = pa.schema([("sha256", S), ("shard", S), ("shard_sha256", S), ("start", N), ("frames", N)])

# What training reads, one row per recording: columns of RECORDINGS, SPLITS, FACTS and SPECTROGRAMS. Its content digest
# is the data set version.
MANIFEST = pa.schema([
    ("recording_id", S), ("sha256", S), ("source", S), ("collection", S), ("subject", S), ("group", S), ("site", S),
    ("label", S), ("part", S), ("fold", N),
    ("rate_hz", N), ("channels", N), ("duration_s", F), ("peak", F), ("rms", F),
    ("shard", S), ("shard_sha256", S), ("start", N), ("frames", N),
])  # fmt: skip

# One row per distinct recording that a model's weights were trained on, see heartdata.dataset.provenance.
TRAINED_ON = pa.schema([
    ("sha256", S), ("samples_sha256", S), ("fingerprint", pa.binary()),
    ("subject", S),  # source/subject, where one is known
])  # fmt: skip

HISTORY = pa.schema([
    ("epoch", N), ("train_loss", F), ("valid_loss", F),
    ("valid_balanced_loss", F),  # averaged within each class first
    ("valid_macro_f1", F),  # the epoch to keep is chosen by it
    ("valid_macro_f1_se", F),  # standard error, by bootstrap over the validation subjects
    ("learning_rate", F),
    ("windows_seen", N),  # since the first epoch
    _not_digested("seconds", F), _not_digested("peak_memory_mb", F),
])  # fmt: skip

# The first model's value less this one's, and the 95 % interval of the difference over the same resamples of subjects.
_DIFFERENCE = (("difference", F), ("difference_low", F), ("difference_high", F))

METRICS = pa.schema([("model", S), ("metric", S), ("value", F), ("low", F), ("high", F), *_DIFFERENCE])

# What a recording of the manifest can be grouped by, null where unknown; see heartdata.scoring.slices.
SLICE_ATTRIBUTES = pa.schema([
    ("recording_id", S), ("source", S), ("collection", S), ("site", S),
    ("sex", S),  # female | male
    ("age_group", S),
    ("quality", S),  # low | good
])  # fmt: skip

# One row per metric and slice: the recordings of the test part that have a value (column slice) of an attribute.
SLICES = pa.schema([
    ("attribute", S), ("slice", S), ("recordings", N), ("subjects", N),
    ("metric", S), ("value", F), ("low", F), ("high", F),
])  # fmt: skip

STUDY_METRICS = pa.schema([
    ("arm", S), ("model", S), ("metric", S),
    ("value", F),  # mean over seeds
    ("sd", F),  # over seeds; null for one seed
    ("low", F), ("high", F),  # 95 % interval by bootstrap over subjects
    *_DIFFERENCE,  # the first model is the network
])  # fmt: skip

# A learning curve: the scores of the arms, and the fitted curve, which goes on beyond the largest arm.
LEARNING_CURVE = pa.schema([
    ("model", S),
    ("arm", S),  # null: of the fitted curve
    ("subjects", F),  # that are trained on, mean over folds and seeds
    ("value", F), ("low", F), ("high", F),
    ("sd", F),  # over seeds
])  # fmt: skip

# What the fitted curve of a model says, see heartdata.scoring.learning_curve.
EXTRAPOLATION = pa.schema([
    ("model", S),
    ("plateau", F), ("plateau_low", F), ("plateau_high", F),
    ("gain", F),
    ("more_subjects", F), ("more_low", F), ("more_high", F),  # to train on, for that gain; infinite beyond the horizon
    ("reached", F),  # share of the resamples with that gain within the horizon
])  # fmt: skip


def _probabilities(classes: list[str]) -> list[tuple[str, pa.DataType]]:
    return [(f"p_{name}", F) for name in classes]


def predictions_schema(classes: list[str]) -> pa.Schema:
    """One row per held-out recording: label, prediction, and one probability per class (``p_<class>``)."""
    columns = (("recording_id", S), ("sha256", S), ("group", S), ("label", S), ("prediction", S))
    return pa.schema([*columns, *_probabilities(classes)])


def scores_schema(classes: list[str]) -> pa.Schema:
    """One row per content that a model has predicted: columns of `heartdata.serving.files.predict_batch`."""
    return pa.schema([
        ("sha256", S),
        ("label", S), ("most_probable", S), ("unsure", B),  # null where there is an error
        ("error", S),
        ("warnings", S),  # names of failed checks of severity warning, comma separated
        ("heart_rate_bpm", F),
        *_probabilities(classes),
    ])  # fmt: skip


def champion_schema(classes: list[str]) -> pa.Schema:
    """What a champion has predicted so far, a row a file: ``error`` says why it refuses one."""
    return pa.schema([("sha256", S), ("prediction", S), ("error", S), *_probabilities(classes)])


def subjects_schema(classes: list[str]) -> pa.Schema:
    """One row per held-out subject whose recordings have one label: that label, and the prediction from all of them."""
    columns = (("subject", S), ("group", S), ("label", S), ("prediction", S), ("recordings", N))
    return pa.schema([*columns, *_probabilities(classes)])


def study_schema(classes: list[str]) -> pa.Schema:
    """One row per prediction of a model in a study, for a recording or for all recordings of a patient."""
    return pa.schema([
        ("arm", S), ("seed", N),
        ("fold", S),  # its number, or the database that was held out
        ("model", S), ("recording_id", S), ("sha256", S), ("group", S), ("subject", S),
        ("patient", S),  # who is scored: the subject, or the patient ID at that visit, for patients with two IDs
        ("collection", S),
        ("noisy", B),  # of poor signal quality, where the source says so
        ("label", S), ("prediction", S),
        *_probabilities(classes),
    ])  # fmt: skip
