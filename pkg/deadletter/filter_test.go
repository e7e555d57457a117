package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// Whatever is asked for, the pages together are the letters that match, each once, the last failed first.
func TestFiltersAndPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		const n = 60
		long := strings.Repeat("k", 5000)
		for i := range n {
			r := kafka.Record{
				Topic: fmt.Sprint("t", i%2), Offset: int64(i), Key: []byte([]string{"a", "b", long + "1", long + "2"}[i%4]),
				Headers: map[string]string{"ce_type": fmt.Sprint("type", i%3)},
			}
			f.record(t, deadletter.FromRecord(deadletter.New(r, deadletter.Failure{
				Group: fmt.Sprint("g", i%5), ErrorType: []string{deadletter.Permanent, deadletter.Transient}[i%2],
				Err: fmt.Errorf("Order %d: 100%% of %q_ is gone%s", i, "x", []string{"", " for good"}[i%2]), At: noon.Add(time.Duration(i/7) * time.Minute),
			}), fmt.Sprint("g", i%5)))
		}
		_, err := f.Discard(t.Context(), "t0-0-0", by)
		require.NoError(t, err)
		_, err = f.Redrive(t.Context(), "t1-0-1", by)
		require.NoError(t, err)
		all, err := f.List(t.Context(), deadletter.Filter{}, deadletter.Position{}, 1000)
		require.NoError(t, err)
		require.Len(t, all, n)
		for name, tc := range map[string]struct {
			filter deadletter.Filter
			means  func(l deadletter.Letter) bool
		}{
			"all":       {deadletter.Filter{}, func(deadletter.Letter) bool { return true }},
			"open":      {deadletter.Filter{State: deadletter.Open}, func(l deadletter.Letter) bool { return l.State == deadletter.Waiting }},
			"state":     {deadletter.Filter{State: deadletter.Redriving}, func(l deadletter.Letter) bool { return l.State == deadletter.Redriving }},
			"group":     {deadletter.Filter{Group: "g3"}, func(l deadletter.Letter) bool { return l.Group == "g3" }},
			"topic":     {deadletter.Filter{Topic: "t1"}, func(l deadletter.Letter) bool { return l.Topic == "t1" }},
			"type":      {deadletter.Filter{EventType: "type2"}, func(l deadletter.Letter) bool { return l.EventType == "type2" }},
			"error":     {deadletter.Filter{ErrorType: deadletter.Transient}, func(l deadletter.Letter) bool { return l.ErrorType == deadletter.Transient }},
			"cause":     {deadletter.Filter{Cause: "Order #: #% of #_ is gone"}, func(l deadletter.Letter) bool { return l.Offset%2 == 0 }},
			"key":       {deadletter.Filter{Key: "b"}, func(l deadletter.Letter) bool { return string(l.Key) == "b" }},
			"long key":  {deadletter.Filter{Key: long + "2"}, func(l deadletter.Letter) bool { return string(l.Key) == long+"2" }},
			"text":      {deadletter.Filter{Text: "FOR GOOD"}, func(l deadletter.Letter) bool { return l.Offset%2 == 1 }},
			"percent":   {deadletter.Filter{Text: "100% of"}, func(deadletter.Letter) bool { return true }},
			"wildcards": {deadletter.Filter{Text: "o%r"}, func(deadletter.Letter) bool { return false }},
			"since":     {deadletter.Filter{Since: noon.Add(3 * time.Minute)}, func(l deadletter.Letter) bool { return !l.FailedAt.Before(noon.Add(3 * time.Minute)) }},
			"until":     {deadletter.Filter{Until: noon.Add(3 * time.Minute)}, func(l deadletter.Letter) bool { return l.FailedAt.Before(noon.Add(3 * time.Minute)) }},
			"several": {
				deadletter.Filter{State: deadletter.Open, Topic: "t0", Key: "a", Since: noon, Until: noon.Add(5 * time.Minute), Text: "gone"},
				func(l deadletter.Letter) bool {
					return l.State == deadletter.Waiting && l.Topic == "t0" && string(l.Key) == "a" && l.FailedAt.Before(noon.Add(5*time.Minute))
				},
			},
		} {
			var want, got []string
			for _, l := range all {
				if tc.means(l) {
					want = append(want, l.ID)
				}
			}
			after := deadletter.Position{}
			for {
				page, err := f.List(t.Context(), tc.filter, after, 7)
				require.NoError(t, err, name)
				for _, l := range page {
					got = append(got, l.ID)
				}
				if len(page) < 7 {
					break
				}
				after = deadletter.Position{FailedAt: page[6].FailedAt, ID: page[6].ID}
			}
			require.Equal(t, want, got, name)

			causes, err := f.Causes(t.Context(), tc.filter, 1000)
			require.NoError(t, err, name)
			sum := 0
			for _, c := range causes {
				sum += c.Letters
			}
			require.Len(t, want, sum, name)
			require.True(t, slices.IsSortedFunc(causes, func(a, b deadletter.CauseCount) int { return b.Letters - a.Letters }), name)
		}
	})
}

func TestCause(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                                  "",
		"no stock":                          "no stock",
		`order 01a1fe8f-2898 has no line 7`: "order # has no line #",
		`order 01a1fe8f-2899 has no line 8`: "order # has no line #",
		`field "quantity" must be below 10`: "field # must be below #",
		"dial tcp 10.0.0.7:5432:\n refused": "dial tcp #:#: refused",
		"\x00\xff":                          "\uFFFD\uFFFD",
		strings.Repeat("é", 300):            strings.Repeat("é", 200),
	} {
		require.Equal(t, want, deadletter.Cause(message))
	}
}

// A second failure's bytes are those that were tried: they take the place of the first's, unless an operator wrote others
// meanwhile, or they are missing.
func TestBytesOfALaterFailure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		record := func(r kafka.Record, value string, shorten bool) deadletter.Letter {
			r.Value = []byte(value)
			letter := deadletter.New(r, deadletter.Failure{Group: "g", Err: errors.New("no"), At: noon})
			if shorten {
				letter = deadletter.Shortened(letter)
			}
			l := deadletter.FromRecord(letter, "g")
			f.record(t, l)
			l, err := f.Get(t.Context(), l.ID)
			require.NoError(t, err)
			return l
		}
		at := func(offset int64) kafka.Record { return kafka.Record{Topic: "t", Offset: offset} }
		first := record(at(1), "first", false)
		require.Equal(t, "second", string(record(first.Record(), "second", false).Value))

		first = record(at(2), "first", false)
		short := record(first.Record(), "second", true)
		require.Equal(t, []any{"first", "", 2}, []any{string(short.Value), short.Omitted, short.Failures})

		l := record(at(3), "first", false)
		_, err := f.Edit(t.Context(), l.ID, []byte("edited"), by)
		require.NoError(t, err)
		late := record(l.Record(), "first", false)
		require.Equal(t, []any{"edited", 1, deadletter.FailedAgain}, []any{string(late.Value), late.Edits, late.State})
	})
}

// Letters of before the table's newest form are found by what it added.
func TestLettersOfBeforeAreFoundByTheirKey(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.fill(t, 0, 3)
		_, err := f.db.ExecContext(t.Context(), `UPDATE dead_letters SET key_text = ''`)
		require.NoError(t, err)
		found, err := f.List(t.Context(), deadletter.Filter{Key: "k1"}, deadletter.Position{}, 10)
		require.NoError(t, err)
		require.Len(t, found, 1)
	})
}

// What is settled is forgotten in time, and nothing else is: not what was done to a letter that is still there.
func TestPurge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		f.fill(t, 0, 12)
		for i := range 5 {
			_, err := f.Discard(t.Context(), fmt.Sprint("t-0-", i), by)
			require.NoError(t, err)
		}
		_, err := f.Redrive(t.Context(), "t-0-5", by)
		require.NoError(t, err)
		_, err = f.Edit(t.Context(), "t-0-7", []byte("mended"), by)
		require.NoError(t, err)
		f.now = f.now.Add(time.Hour)
		_, err = f.Discard(t.Context(), "t-0-6", by)
		require.NoError(t, err)
		j, err := f.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		require.Equal(t, 5, j.Total)
		require.NoError(t, f.Purge(t.Context(), f.now.Add(-time.Minute), 2))
		left, err := f.List(t.Context(), deadletter.Filter{}, deadletter.Position{}, 100)
		require.NoError(t, err)
		require.Len(t, left, 7)
		trail, err := f.Audit(t.Context(), deadletter.AuditFilter{Limit: 100})
		require.NoError(t, err)
		var kept []string
		for _, e := range trail {
			kept = append(kept, e.Verb+" "+e.Letter)
		}
		require.Equal(t, []string{"redrive_job ", "discard t-0-6", "edit t-0-7", "redrive t-0-5"}, kept)
		replaced, err := f.Entry(t.Context(), trail[2].Seq)
		require.NoError(t, err)
		require.Equal(t, "7", string(replaced.Before))

		require.Equal(t, 5, f.items(t), "the selection of a job that is not over")
		require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE dead_letter_jobs SET live = FALSE, ended_at = $1`, f.now)
			return err
		}))
		require.NoError(t, f.Purge(t.Context(), f.now, 2))
		require.Zero(t, f.items(t))
		_, err = f.Job(t.Context(), j.ID)
		require.ErrorIs(t, err, deadletter.ErrNotFound)
	})
}

func (f *fixture) items(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, f.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM dead_letter_job_items`).Scan(&n))
	return n
}

// A job that is held to its preview takes what was shown: what came in since then is left out, or has it refused.
func TestWhatWasShownIsWhatGoes(t *testing.T) {
	t.Parallel()
	eachGroup(t, 5, func(t *testing.T, g *group) {
		r := redriveAll()
		p, err := g.Preview(t.Context(), r)
		require.NoError(t, err)
		r.Max, r.Filter.Until = p.Total, p.Letters[0].FailedAt.Add(time.Microsecond)
		last := noon.Add(time.Hour)
		g.record(t, letterOf(kafka.Record{Topic: "later"}, last.Add(time.Second)))
		g.record(t, letterOf(kafka.Record{Topic: "earlier"}, last.Add(-time.Second)))
		_, err = g.Begin(t.Context(), r)
		require.ErrorIs(t, err, deadletter.ErrTooMany)

		_, err = g.Discard(t.Context(), "earlier-0-0", by)
		require.NoError(t, err)
		j, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		run(t, g.Store)
		require.Equal(t, 5, g.over(t, j.ID).Settled)
		require.ElementsMatch(t, ids(0, 5), g.received())
	})
}
