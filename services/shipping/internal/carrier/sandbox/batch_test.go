package sandbox_test

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

const slowness = time.Minute

func open(t *testing.T, url string) *database.DB {
	t.Helper()
	return databasetest.Open(t, url, map[string]fs.FS{"sandbox": sandbox.Migrations()})
}

func newSandbox(db *database.DB) *sandbox.Sandbox {
	return sandbox.New(sandbox.Config{Slow: slowness, Timeout: 2 * slowness}, db, time.Now)
}

type answer struct {
	parcel carrier.Parcel
	err    error
}

func parcel(i int, city, country string) carrier.ArrangeRequest {
	return carrier.ArrangeRequest{Key: fmt.Sprintf("arrange-%d", i), Address: events.Address{City: city, Country: country}}
}

// arrangeAll asks for n parcels at once; to tells where each goes.
func arrangeAll(t *testing.T, s *sandbox.Sandbox, n int, to func(i int) (city, country string)) []answer {
	t.Helper()
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			city, country := to(i)
			answers[i].parcel, answers[i].err = s.Arrange(t.Context(), parcel(i, city, country))
		})
	}
	all.Wait()
	return answers
}

func berlin(int) (city, country string) { return "Berlin", "DE" }

func books(t *testing.T, s *sandbox.Sandbox, want sandbox.Counts) {
	t.Helper()
	got, err := s.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Parcels that are asked for at once share their commits, and each has its own answer: so has one whose key was used for
// another, and one that is refused.
func TestParcelsShareCommits(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		s := newSandbox(open(t, url))
		_, err := s.Arrange(t.Context(), parcel(7, "Hamburg", "DE"))
		require.NoError(t, err)
		const n = 500
		before := 0
		if counted {
			before = statements()
		}
		answers := arrangeAll(t, s, n, func(i int) (city, country string) {
			if i == 8 {
				return "Base", sandbox.CountryAntarctica
			}
			return berlin(i)
		})
		if counted {
			require.Less(t, statements()-before, n, "each by itself takes four or five")
		}
		numbers := map[string]bool{}
		for i, a := range answers {
			switch i {
			case 7:
				require.Equal(t, fault.Permanent, fault.KindOf(a.err), "%v", a.err)
				require.ErrorContains(t, a.err, "another parcel")
			case 8:
				require.ErrorAs(t, a.err, new(*carrier.Refused))
			default:
				require.NoError(t, a.err)
				numbers[a.parcel.TrackingNumber] = true
			}
		}
		require.Len(t, numbers, n-2)
		books(t, s, sandbox.Counts{Arranged: n - 1})
	})
}

// Two processes are asked for the same parcels at the same time: each is arranged once, and both know the same one.
func TestTwoProcessesArrangeOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		var all sync.WaitGroup
		const n = 100
		var made [2][]answer
		for i := range made {
			s := newSandbox(open(t, url))
			all.Go(func() { made[i] = arrangeAll(t, s, n, berlin) })
		}
		all.Wait()
		for i := range n {
			assert.NoError(t, made[0][i].err)
			assert.Equal(t, made[0][i], made[1][i])
		}
		books(t, newSandbox(open(t, url)), sandbox.Counts{Arranged: n})
	})
}

// One that takes its time holds nobody up. In a bubble, where only waiting takes time, none passes.
func TestASlowParcelHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, start := newSandbox(open(t, "sqlite:"+t.TempDir()+"/sandbox.db")), time.Now()
		slow := make(chan error)
		go func() {
			_, err := s.Arrange(t.Context(), parcel(100, sandbox.CitySlow, "DE"))
			slow <- err
		}()
		synctest.Wait()
		for _, a := range arrangeAll(t, s, 10, berlin) {
			require.NoError(t, a.err)
		}
		require.Zero(t, time.Since(start))
		require.NoError(t, <-slow)
		require.Equal(t, slowness, time.Since(start))
	})
}

// What was arranged before the numbers had a column keeps its number.
func TestNumbersThatWereGivenOutStay(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		const first = "0001_sandbox.sql"
		text, err := fs.ReadFile(sandbox.Migrations(), first)
		require.NoError(t, err)
		db := databasetest.Open(t, url, map[string]fs.FS{"sandbox": fstest.MapFS{first: {Data: text}}})
		for i := range 12 {
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO sandbox_parcels (key, fingerprint, state, attempts, code, updated_at)
					VALUES ($1, '', 'arranged', 1, '', $2)`, fmt.Sprintf("arrange-%d", i), time.Now().UTC())
				return err
			}))
		}
		s := newSandbox(open(t, url))
		for i := range 12 {
			c, err := s.Cancel(t.Context(), carrier.CancelRequest{ArrangeKey: fmt.Sprintf("arrange-%d", i)})
			require.NoError(t, err)
			require.Equal(t, carrier.Cancellation{Found: true, Carrier: sandbox.Name, TrackingNumber: fmt.Sprintf("SBX%010d", i+1)}, c)
		}
		fresh, err := s.Arrange(t.Context(), parcel(12, "Berlin", "DE"))
		require.NoError(t, err)
		require.Regexp(t, "^SBX[A-Z2-7]{16}$", fresh.TrackingNumber)
	})
}
