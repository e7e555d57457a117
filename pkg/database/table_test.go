package database_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

type parcel struct {
	ID, Owner string
	Weight    int64
	Made      time.Time
	Sent      time.Time // zero: not yet
}

var errTaken = errors.New("there is such a parcel")

var parcels = &database.Table[parcel]{
	Name: "parcels", Exists: errTaken,
	Fields: []database.Field[parcel]{
		database.Text("id", func(p parcel) string { return p.ID }),
		database.Text("owner", func(p parcel) string { return p.Owner }).Fixed(),
		database.Int("weight", func(p parcel) int64 { return p.Weight }),
		database.Time("made", func(p parcel) time.Time { return p.Made }).Fixed(),
		database.TimeOrNull("sent", func(p parcel) time.Time { return p.Sent }),
	},
	Scan: func(row database.Scanner) (p parcel, err error) {
		var sent *time.Time
		if err = row.Scan(&p.ID, &p.Owner, &p.Weight, &p.Made, &sent); sent != nil {
			p.Sent = sent.UTC()
		}
		p.Made = p.Made.UTC()
		return p, err
	},
}

var made = time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC)

func parcelOf(id string, weight int64) parcel {
	return parcel{ID: id, Owner: "o", Weight: weight, Made: made}
}

func openParcels(t *testing.T, url string) *database.DB {
	t.Helper()
	return databasetest.Open(t, url, map[string]fs.FS{"parcels": migration(`
		CREATE TABLE parcels (
			id TEXT PRIMARY KEY, owner TEXT NOT NULL, weight BIGINT NOT NULL CHECK (weight >= 0), made {{timestamp}} NOT NULL, sent {{timestamp}}
		);`)})
}

// put commits these parcels.
func put(t *testing.T, db *database.DB, list ...parcel) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
		for _, p := range list {
			parcels.Put(tx, p)
		}
		return nil
	}))
}

// all are the parcels that are committed, by id.
func all(t *testing.T, db *database.DB) map[string]parcel {
	t.Helper()
	list, err := parcels.List(t.Context(), db, `SELECT `+parcels.Columns()+` FROM parcels`)
	require.NoError(t, err)
	found := map[string]parcel{}
	for _, p := range list {
		found[p.ID] = p
	}
	return found
}

// load is Load, which must work.
func load(ctx context.Context, t *testing.T, tx *database.Tx, id string) (parcel, bool) {
	t.Helper()
	p, there, err := parcels.Load(ctx, tx, id)
	require.NoError(t, err)
	return p, there
}

// Half of the rows are there and half are new, more than a statement takes; in the end all are as they were put last.
func TestTableWritesManyRows(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		const n = 2*database.MaxRows + 10
		ids, want := make([]string, 2*n), map[string]parcel{}
		var old []parcel
		for i := range ids {
			ids[i] = fmt.Sprint("p", i)
			want[ids[i]] = parcelOf(ids[i], int64(i)+1)
			if i%2 == 0 {
				old = append(old, parcelOf(ids[i], 0))
			}
		}
		put(t, db, old...)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, parcels.Ahead(ctx, tx, slices.Concat(ids, ids)...))
			for i, id := range ids {
				p, there := load(ctx, t, tx, id)
				require.Equal(t, i%2 == 0, there)
				if !there {
					p = parcelOf(id, 0)
				}
				parcels.Put(tx, p)
				p, there = load(ctx, t, tx, id)
				require.True(t, there, "it was put")
				p.Weight = int64(i) + 1
				parcels.Put(tx, p) // the second one counts
			}
			return nil
		}))
		require.Equal(t, want, all(t, db))

		got, there, err := parcels.Get(t.Context(), db, "p1")
		require.NoError(t, err)
		require.True(t, there)
		require.Equal(t, want["p1"], got)
		_, there, err = parcels.Get(t.Context(), db, "none")
		require.NoError(t, err)
		require.False(t, there)
		found, err := parcels.GetAll(t.Context(), db, slices.Concat(ids, []string{"none", ids[0]}))
		require.NoError(t, err)
		require.Equal(t, want, found)
	})
}

func TestTableColumns(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		east := made.Add(time.Hour).In(time.FixedZone("east", 3600))
		put(t, db, parcel{"a", "", -0, east, east}, parcelOf("b", 1<<62))
		require.Equal(t, map[string]parcel{
			"a": {"a", "", 0, east.UTC(), east.UTC()}, "b": parcelOf("b", 1<<62),
		}, all(t, db))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, parcels.Ahead(ctx, tx, "a", "b"))
			parcels.Put(tx, parcel{"a", "other", 1, made.Add(1), time.Time{}})
			parcels.Put(tx, parcel{"b", "other", 2, made.Add(1), made})
			return nil
		}))
		require.Equal(t, map[string]parcel{
			"a": {"a", "", 1, east.UTC(), time.Time{}}, "b": {"b", "o", 2, made, made},
		}, all(t, db), "owner and made are fixed")
	})
}

// A row that is not there cannot be locked: another transaction makes it meanwhile, or this one did not look.
func TestTableKeyIsTaken(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		take := func(look bool, meanwhile func()) error {
			return db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				if look {
					_, there := load(ctx, t, tx, "a")
					require.False(t, there)
				}
				meanwhile()
				parcels.Put(tx, parcelOf("a", 2))
				parcels.Put(tx, parcelOf("b", 2))
				return nil
			})
		}
		taken := func(err error) {
			require.ErrorIs(t, err, errTaken)
			require.True(t, database.IsUnique(err))
			require.Equal(t, map[string]parcel{"a": parcelOf("a", 1)}, all(t, db), "nothing of the transaction")
		}
		if db.Dialect() == database.Postgres { // on SQLite there is no meanwhile
			taken(take(true, func() { put(t, db, parcelOf("a", 1)) }))
		} else {
			put(t, db, parcelOf("a", 1))
		}
		taken(take(false, func() {}))
	})
}

// What the database refuses at the end refuses all of it.
func TestFailedFlushUndoesTheTransaction(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		put(t, db, parcelOf("a", 1), parcelOf("b", 1))
		err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, parcels.Ahead(ctx, tx, "a", "b"))
			parcels.Put(tx, parcelOf("new", 1))
			parcels.Put(tx, parcelOf("a", 2))
			parcels.Put(tx, parcelOf("b", -1))
			return nil
		})
		require.True(t, database.IsCheck(err), err)
		require.ErrorContains(t, err, "update parcels, 2 rows")
		require.Equal(t, map[string]parcel{"a": parcelOf("a", 1), "b": parcelOf("b", 1)}, all(t, db))
	})
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		put(t, db, parcelOf("old", 5))
		blank := func(id string) parcel { return parcelOf(id, 0) }
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, there := load(ctx, t, tx, "missed")
			require.False(t, there)
			parcels.Put(tx, parcelOf("put", 3))
			for range 2 {
				require.NoError(t, parcels.Ensure(ctx, tx, blank("put"), blank("old"), blank("missed"), blank("new"), blank("new")))
				for id, weight := range map[string]int64{"old": 5, "put": 3, "missed": 0, "new": 0} {
					p, there := load(ctx, t, tx, id)
					require.True(t, there, id)
					require.Equal(t, parcelOf(id, weight), p)
				}
			}
			parcels.Put(tx, parcelOf("new", 7))
			return nil
		}))
		require.Equal(t, map[string]parcel{
			"old": parcelOf("old", 5), "put": parcelOf("put", 3), "missed": blank("missed"), "new": parcelOf("new", 7),
		}, all(t, db))
	})
}

// Transactions that add to the same rows, some of which nobody has made yet, in any order of their own: nobody waits in
// a circle, nothing is lost, and none has to be done again.
func TestManyWritersNeverDeadlock(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(ctx context.Context, tx *database.Tx, ids []string) error{
		"ahead": func(ctx context.Context, tx *database.Tx, ids []string) error { return parcels.Ahead(ctx, tx, ids...) },
		"ensure": func(ctx context.Context, tx *database.Tx, ids []string) error {
			blank := make([]parcel, len(ids))
			for i, id := range ids {
				blank[i] = parcelOf(id, 0)
			}
			return parcels.Ensure(ctx, tx, blank...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				db := openParcels(t, url)
				const keys, writers, rounds = 12, 6, 40
				if name == "ahead" {
					for i := range keys {
						put(t, db, parcelOf(fmt.Sprint("p", i), 0))
					}
				}
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				var wg sync.WaitGroup
				for w := range writers {
					random := rand.New(rand.NewPCG(seed, uint64(w)))
					wg.Go(func() {
						for range rounds {
							ids := make([]string, 0, keys)
							for _, i := range random.Perm(keys) {
								ids = append(ids, fmt.Sprint("p", i))
							}
							err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
								if err := start(ctx, tx, ids[:keys/2]); err != nil {
									return err
								}
								for _, id := range ids[:keys/2] {
									p, _, err := parcels.Load(ctx, tx, id)
									if err != nil {
										return err
									}
									p.Weight++
									parcels.Put(tx, p)
								}
								return nil
							})
							if err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				var total int64
				for _, p := range all(t, db) {
					total += p.Weight
				}
				require.EqualValues(t, writers*rounds*keys/2, total)
			})
		})
	}
}

// On PostgreSQL: as many statements for many rows as for one, and none of them reads the whole table once it has grown, as
// a plan would that was kept from when it was empty.
func TestTableCostsTheSameForManyRows(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, count, ok := databasetest.Counted(t, url)
		if !ok {
			return // SQLite keeps no plan, and takes up to MaxRows a statement
		}
		db := openParcels(t, url)
		var scanned int64
		for round, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 10_000, 8} {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint(round, "-", i)
			}
			before := count()
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				sum := func() (n int64) {
					require.NoError(t, tx.QueryRowContext(ctx, `SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'parcels'`).Scan(&n))
					return n
				}
				scanned = sum()
				require.NoError(t, parcels.Ahead(ctx, tx, ids...))
				for _, id := range ids {
					_, there := load(ctx, t, tx, id)
					require.False(t, there)
					parcels.Put(tx, parcelOf(id, 1))
				}
				require.NoError(t, tx.Flush(ctx))
				for _, id := range ids {
					parcels.Put(tx, parcelOf(id, 2))
				}
				require.NoError(t, tx.Flush(ctx))
				scanned = sum() - scanned
				return nil
			}))
			require.EqualValues(t, 7, count()-before, "%d rows: BEGIN, SELECT, INSERT, UPDATE, COMMIT, and two to count", n)
		}
		require.Zero(t, scanned, "the last few among many")
	})
}
