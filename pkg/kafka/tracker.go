package kafka

// tracker knows which records of one partition are unfinished, and so how far its offset may be committed.
//
// Records are entered in the log's order. Offsets may have gaps (compaction, transaction markers), so what is kept is
// a queue of records rather than a range of offsets.
type tracker struct {
	records []tracked
	// head is the first that is unfinished, base the ticket of records[0].
	head int
	base int64
}

type tracked struct {
	offset int64
	done   bool
}

// start enters a record and returns its ticket.
func (t *tracker) start(offset int64) (ticket int64) {
	t.records = append(t.records, tracked{offset: offset})
	return t.base + int64(len(t.records)) - 1
}

// finish notes that a record is done. When it was the lowest unfinished one, finish returns the offset to commit: that
// of the record after the last one below which all are done.
func (t *tracker) finish(ticket int64) (next int64, moved bool) {
	t.records[ticket-t.base].done = true
	for t.head < len(t.records) && t.records[t.head].done {
		next, moved = t.records[t.head].offset+1, true
		t.head++
	}
	// Moving the rest to the front once half is done keeps the cost per record constant.
	if t.head > 64 && t.head > len(t.records)/2 {
		t.base += int64(t.head)
		t.records = append(t.records[:0], t.records[t.head:]...)
		t.head = 0
	}
	return next, moved
}

// span is the number of records from the lowest unfinished one on, finished or not.
func (t *tracker) span() int { return len(t.records) - t.head }
