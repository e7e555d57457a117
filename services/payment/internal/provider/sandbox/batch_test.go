package sandbox_test

import (
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

const slowness = time.Minute

var price = events.Money{Amount: 100, Currency: "EUR"}

func open(t *testing.T, url string) *database.DB {
	t.Helper()
	return databasetest.Open(t, url, map[string]fs.FS{"sandbox": sandbox.Migrations()})
}

func newSandbox(db *database.DB) *sandbox.Sandbox {
	return sandbox.New(sandbox.Config{Slow: slowness, Timeout: 2 * slowness}, db, time.Now, uuid.NewString)
}

type answer struct {
	charge provider.Charge
	err    error
}

// chargeAll asks for n charges at once; method tells how each is paid.
func chargeAll(t *testing.T, s *sandbox.Sandbox, n int, method func(i int) string) []answer {
	t.Helper()
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answers[i].charge, answers[i].err = s.Charge(t.Context(), provider.ChargeRequest{
				Key: fmt.Sprintf("charge-%d", i), Amount: price, Method: method(i),
			})
		})
	}
	all.Wait()
	return answers
}

func approved(int) string { return sandbox.TokenApproved }

func books(t *testing.T, s *sandbox.Sandbox, want rules.Totals) {
	t.Helper()
	got, err := s.Totals(t.Context())
	require.NoError(t, err)
	want.Currency = "EUR"
	require.Equal(t, []rules.Totals{want}, got)
}

// Charges that are asked for at once share their commits, and each has its own answer: so has one whose key was used for
// another, and one that is declined.
func TestChargesShareCommits(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		s := newSandbox(open(t, url))
		_, err := s.Charge(t.Context(), provider.ChargeRequest{Key: "charge-7", Amount: events.Money{Amount: 1, Currency: "EUR"}, Method: sandbox.TokenApproved})
		require.NoError(t, err)
		const n = 500
		before := 0
		if counted {
			before = statements()
		}
		answers := chargeAll(t, s, n, func(i int) string {
			if i == 8 {
				return sandbox.TokenDeclined
			}
			return sandbox.TokenApproved
		})
		if counted {
			require.Less(t, statements()-before, n, "each by itself takes four or five")
		}
		references := map[string]bool{}
		for i, a := range answers {
			switch i {
			case 7:
				require.Equal(t, fault.Permanent, fault.KindOf(a.err), "%v", a.err)
				require.ErrorContains(t, a.err, "another charge")
			case 8:
				require.ErrorAs(t, a.err, new(*provider.Declined))
			default:
				require.NoError(t, a.err)
				references[a.charge.Reference] = true
			}
		}
		require.Len(t, references, n-2)
		books(t, s, rules.Totals{Charged: (n-2)*100 + 1, Charges: n - 1, Declines: 1})
	})
}

// Two processes are asked for the same charges at the same time: each is made once, and both know the same one.
func TestTwoProcessesChargeOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		var all sync.WaitGroup
		const n = 100
		var made [2][]answer
		for i := range made {
			s := newSandbox(open(t, url))
			all.Go(func() { made[i] = chargeAll(t, s, n, approved) })
		}
		all.Wait()
		for i := range n {
			assert.NoError(t, made[0][i].err)
			assert.Equal(t, made[0][i], made[1][i])
		}
		books(t, newSandbox(open(t, url)), rules.Totals{Charged: n * 100, Charges: n})
	})
}

// One that takes its time holds nobody up. In a bubble, where only waiting takes time, none passes.
func TestASlowChargeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, start := newSandbox(open(t, "sqlite:"+t.TempDir()+"/sandbox.db")), time.Now()
		slow := make(chan error)
		go func() {
			_, err := s.Charge(t.Context(), provider.ChargeRequest{Key: "slow", Amount: price, Method: sandbox.TokenSlow})
			slow <- err
		}()
		synctest.Wait()
		for _, a := range chargeAll(t, s, 10, approved) {
			require.NoError(t, a.err)
		}
		require.Zero(t, time.Since(start))
		require.NoError(t, <-slow)
		require.Equal(t, slowness, time.Since(start))
	})
}
