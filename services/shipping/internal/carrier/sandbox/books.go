package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// entry is one key in the books.
type entry struct {
	key            string
	fingerprint    string
	state          string
	attempts       int
	code           string
	trackingNumber string
	updatedAt      time.Time
}

// States of an entry.
const (
	undecided = "open"
	arranged  = "arranged"
	refused   = "refused"
	cancelled = "cancelled"
	calledOff = "called_off"
)

var parcels = &database.Table[entry]{
	Name: "sandbox_parcels",
	Fields: []database.Field[entry]{
		database.Text("key", func(e entry) string { return e.key }),
		database.Text("fingerprint", func(e entry) string { return e.fingerprint }),
		database.Text("state", func(e entry) string { return e.state }),
		database.Int("attempts", func(e entry) int64 { return int64(e.attempts) }),
		database.Text("code", func(e entry) string { return e.code }),
		database.Text("tracking_number", func(e entry) string { return e.trackingNumber }),
		database.Time("updated_at", func(e entry) time.Time { return e.updatedAt }),
	},
	Scan: func(row database.Scanner) (e entry, err error) {
		err = row.Scan(&e.key, &e.fingerprint, &e.state, &e.attempts, &e.code, &e.trackingNumber, &e.updatedAt)
		return e, err
	},
}

// change commits what fn makes of a key's entry, which is undecided at first. Calls that come at the same time share a
// commit.
func (s *Sandbox) change(ctx context.Context, key string, fn func(*entry) error) (entry, error) {
	return s.books.Do(ctx, key, func(row entry) (entry, error) {
		e := row
		if e.key == "" {
			e.key, e.state = key, undecided
		}
		if e.trackingNumber == "" { // also in a row of a process of the version before, made after the migration
			e.trackingNumber = trackingNumber(key)
		}
		err := fn(&e)
		if e != row {
			e.updatedAt = s.now().UTC()
		}
		return e, err
	})
}

// trackingNumber is the number of a new parcel. Made from the key it needs no counter, and so no round trip of its own;
// 80 bits of a hash are 16 letters and digits, and the index on them refuses the same twice.
func trackingNumber(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "SBX" + base32.StdEncoding.EncodeToString(sum[:10])
}

// Counts is how many parcels the books have.
type Counts struct{ Arranged, Cancelled int64 }

// Count sums up the books.
func (s *Sandbox) Count(ctx context.Context) (Counts, error) {
	var c Counts
	err := s.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN state = 'arranged' THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN state = 'cancelled' THEN 1 ELSE 0 END), 0) FROM sandbox_parcels`).Scan(&c.Arranged, &c.Cancelled)
	if err != nil {
		return c, fmt.Errorf("sandbox counts: %w", database.Classify(err))
	}
	return c, nil
}

// fingerprint tells one parcel from another without keeping anybody's address.
func fingerprint(r carrier.ArrangeRequest) (string, error) {
	r.Key = ""
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
