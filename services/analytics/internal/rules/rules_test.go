package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/services/analytics/internal/rules"
)

// TestApplyInAnyOrder: whatever the order of an order's events and however often each comes, the sums are the same.
func TestApplyInAnyOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		total := events.Money{Amount: rapid.Int64Range(1, 1e9).Draw(t, "total"), Currency: "EUR"}
		last := rapid.SampledFrom([]rules.Kind{rules.Confirmed, rules.Cancelled}).Draw(t, "last")
		story := []rules.Event{
			{Kind: rules.Created, OrderID: "o", CustomerID: "c", Version: 1, Total: total, At: at},
			{Kind: last, OrderID: "o", CustomerID: "c", Version: rapid.Int64Range(2, 4).Draw(t, "version"), Total: total, At: at.Add(2 * time.Second)},
		}
		deliveries := rapid.Permutation(append(story, rapid.SliceOfN(rapid.SampledFrom(story), 0, 5).Draw(t, "again")...)).Draw(t, "deliveries")

		var o rules.Order
		states, minutes := map[rules.State]int{}, map[time.Time]map[rules.Kind]int{}
		orders, revenue := 0, int64(0)
		for _, e := range deliveries {
			var c rules.Change
			var changed bool
			if o, c, changed = rules.Apply(o, e); !changed {
				require.Zero(t, c)
				continue
			}
			states[c.Left]--
			states[c.Entered]++
			if minutes[c.Minute] == nil {
				minutes[c.Minute] = map[rules.Kind]int{}
			}
			minutes[c.Minute][c.Counted]++
			revenue += c.Revenue.Amount
			if c.NewOrder {
				orders++
			}
		}
		delete(states, "") // left nothing, entered nothing
		want := map[rules.State]int{rules.Pending: 0, rules.StateConfirmed: 0, rules.StateCancelled: 0}
		for s, n := range states {
			want[s] = n
		}
		require.Equal(t, 1, orders)
		require.Equal(t, map[time.Time]map[rules.Kind]int{
			at.Truncate(time.Minute):                  {rules.Created: 1},
			at.Truncate(time.Minute).Add(time.Minute): {last: 1},
		}, minutes)
		require.Zero(t, want[rules.Pending])
		if last == rules.Confirmed {
			require.Equal(t, 1, want[rules.StateConfirmed])
			require.Equal(t, total.Amount, revenue)
		} else {
			require.Equal(t, 1, want[rules.StateCancelled])
			require.Zero(t, revenue)
		}
	})
}
