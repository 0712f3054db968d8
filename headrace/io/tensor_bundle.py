"""V2 checkpoints ("tensor bundles"), byte for byte TensorFlow's: an index and its data files.

`PREFIX.index` is a table: under the empty key a BundleHeaderProto, under each tensor's name a
BundleEntryProto with its type, shape and place in a data file. `PREFIX.data-SSSSS-of-NNNNN` hold
the tensors' bytes, one after the other. A partitioned tensor has an entry that lists its slices,
and each slice an entry of its own, under a key made of the name and the slice.

Saving is atomic. The index names the data files only through their count NNNNN, and putting it in
place is one rename: that rename is the moment at which the new checkpoint takes the place
of the old. So nothing that the index in place refers to may be touched before it:

1. data files are written under temporary names, synced, and renamed to names with a count
   that the present index does not use; the directory is synced;
2. the new index is written, synced, renamed over the old; the directory is synced;
3. only where the present index already used the wanted count, step 1 took the count above it, and
   now that nothing refers to the wanted names, the data files are linked to them and an index with
   the wanted count is renamed into place. So a finished save leaves exactly TensorFlow's files;
4. data files of other counts, which nothing refers to any more, are removed.

All of it happens under a lock on the directory, for others that save under the same prefix.
A process that dies at any point leaves an index whose data files are whole, old or new. A
reader holds the index and all data files open and then looks whether the index is still in place:
if so, they belong together, whatever is renamed or removed later.
"""

from headrace.io.bundle_format import data_filename, index_filename
from headrace.io.bundle_reader import BundleReader
from headrace.io.bundle_writer import BundleWriter, merge_bundles

__all__ = ["BundleReader", "BundleWriter", "data_filename", "index_filename", "merge_bundles"]
