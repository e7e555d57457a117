package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// figures are what a transaction adds to the sums.
type figures struct {
	customers sums[customer]
	minutes   sums[time.Time]
	revenue   sums[string]
	states    sums[string]
}

type customer struct{ id, currency string }

type figuresKey struct{}

func figuresOf(tx *database.Tx) *figures {
	return database.PutOffBy(tx, figuresKey{}, func() *figures {
		return &figures{
			customers: sums[customer]{
				table: "customers", by: []string{"customer_id", "currency"}, of: []string{"orders", "confirmed", "cancelled", "spent"},
				compare: func(a, b customer) int {
					return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.currency, b.currency))
				},
				columns: func(keys []customer) []database.Column {
					ids, currencies := make([]string, len(keys)), make([]string, len(keys))
					for i, k := range keys {
						ids[i], currencies[i] = k.id, k.currency
					}
					return []database.Column{database.Texts(ids), database.Texts(currencies)}
				},
			},
			minutes: sums[time.Time]{
				table: "minutes", by: []string{"minute"}, of: []string{"created", "confirmed", "cancelled"}, compare: time.Time.Compare,
				columns: func(keys []time.Time) []database.Column { return []database.Column{database.Times(keys)} },
			},
			revenue: sums[string]{table: "revenue", by: []string{"currency"}, of: []string{"amount", "orders"}, compare: strings.Compare, columns: texts},
			states:  sums[string]{table: "orders_by_state", by: []string{"state"}, of: []string{"orders"}, compare: strings.Compare, columns: texts},
		}
	})
}

func texts(keys []string) []database.Column { return []database.Column{database.Texts(keys)} }

// Flush implements database.PutOff. The rows that most orders share come last.
func (f *figures) Flush(ctx context.Context, tx *database.Tx) error {
	for _, flush := range []func(context.Context, *database.Tx) error{f.customers.flush, f.minutes.flush, f.revenue.flush, f.states.flush} {
		if err := flush(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// sums are what a transaction adds to the rows of one table: amounts by key.
type sums[K comparable] struct {
	table string
	// by are the key's columns, of those of the amounts.
	by, of  []string
	compare func(a, b K) int
	columns func(keys []K) []database.Column
	added   map[K][]int64
}

// add adds amounts to the row of a key, one for each column.
func (s *sums[K]) add(key K, amounts ...int64) {
	if s.added == nil {
		s.added = map[K][]int64{}
	}
	row := s.added[key]
	if row == nil {
		row = make([]int64, len(s.of))
		s.added[key] = row
	}
	for i, n := range amounts {
		row[i] += n
	}
}

// flush adds all of it to the table in one statement, in the order of the keys. What adds up to nothing is left out.
func (s *sums[K]) flush(ctx context.Context, tx *database.Tx) error {
	maps.DeleteFunc(s.added, func(_ K, row []int64) bool { return !slices.ContainsFunc(row, func(n int64) bool { return n != 0 }) })
	add := make([]string, len(s.of))
	for i, column := range s.of {
		add[i] = fmt.Sprintf("%[1]s = %[2]s.%[1]s + excluded.%[1]s", column, s.table)
	}
	for keys := range slices.Chunk(slices.SortedFunc(maps.Keys(s.added), s.compare), database.MaxRows) {
		columns := s.columns(keys)
		for i := range s.of {
			amounts := make([]int64, len(keys))
			for j, key := range keys {
				amounts[j] = s.added[key][i]
			}
			columns = append(columns, database.Ints(amounts))
		}
		values, args := tx.Dialect().Columns(columns...)
		key := strings.Join(s.by, ", ")
		err := tx.Later(ctx, database.Statement{Query: `INSERT INTO ` + s.table + ` (` + key + `, ` + strings.Join(s.of, ", ") + `) ` + values + `
			ON CONFLICT (` + key + `) DO UPDATE SET ` + strings.Join(add, ", "), Args: args, Failed: func(err error) error {
			return fmt.Errorf("add to %s: %w", s.table, database.Classify(err))
		}})
		if err != nil {
			return err
		}
	}
	clear(s.added)
	return nil
}
