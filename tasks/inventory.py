"""What the source names, with content hashes. Never cached: listing the folder is how new files are detected."""

from heartdata.dataset.inventory import take_inventory
from heartdata.sources import Source
from heartdata.storage.hash_cache import HashCache
from heartdata.storage.schemas import RECORDINGS
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import add_note, track
from tasks.engine.stage import uncached_task


@uncached_task("inventory", retries=3, retry_delay_seconds=5, timeout_seconds=7200)
def inventory(source: Source, store: Store) -> Artifact:
    """List the recordings of ``source`` (schema RECORDINGS); ``counts`` holds the source's notes."""
    with track("inventory", unit="files") as advance:
        seen = HashCache(store.workpath("recordings/seen.parquet"))
        table, notes = take_inventory(source, store.workpath("made"), advance, seen)
        seen.save()
        subjects = table.column("subject").drop_null().unique()
        counts: dict[str, int | float | str] = {"found": table.num_rows, "subjects": len(subjects)}
        by_subject = f"{len(subjects)} subjects" if len(subjects) else "each its own subject"
        detail = f"{table.num_rows} recordings, {by_subject}; {seen.hashed} files hashed"
        if seen.hits:
            detail += f", {seen.hits} unchanged"
        advance(table.num_rows, table.num_rows, detail)
        counts |= {f"note_{number}": note for number, note in enumerate(notes)}
        recordings = store.write_table("recordings", table, RECORDINGS, counts)
    for note in notes:
        add_note(note)
    return recordings
