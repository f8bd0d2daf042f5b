"""Where results are kept: a store in a folder or a bucket, schemas of its tables, shards, the cache of hashes."""
