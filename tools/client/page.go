package client

// upTo lists what page gives, one page after the other, but no more than most, with up to largest a page; cursor is nil for
// the first page, next for the last. It tells whether there are more.
func upTo[T any](most, largest int, page func(limit int, cursor *string) (items []T, next *string, err error)) (all []T, more bool, err error) {
	all = []T{}
	var cursor *string
	for {
		items, next, err := page(min(largest, most-len(all)), cursor)
		if err != nil {
			return nil, false, err
		}
		all = append(all, items...)
		if next == nil || len(all) >= most {
			return all, next != nil, nil
		}
		cursor = next
	}
}
