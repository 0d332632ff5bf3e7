package index

// Notes are small values of the caller's, kept beside the nodes. They aren't
// durable before Sync, and the caller must be able to make them again.

// Notes hands every note whose key begins with prefix to each, in the order of
// their keys. The arguments are valid during the call.
func (ix *Index) Notes(prefix string, each func(key string, value []byte) error) error {
	return ix.store.scan(append([]byte{keyNote}, prefix...), func(k, v []byte) (bool, error) {
		return true, each(string(k[1:]), v)
	})
}

// PutNotes stores notes, of 128 MiB at most; a nil value deletes the note.
func (ix *Index) PutNotes(notes map[string][]byte) error {
	if len(notes) == 0 {
		return nil
	}
	var b batch
	for k, v := range notes {
		b.put(append([]byte{keyNote}, k...), v)
	}
	_, err := ix.store.write(&b)
	return ix.fail("write", err)
}
