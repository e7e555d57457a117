package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// entry is one key in the books.
type entry struct {
	serial      int64
	key         string
	fingerprint string
	state       string
	attempts    int
	code        string
}

// States of an entry.
const (
	undecided = "open"
	arranged  = "arranged"
	refused   = "refused"
	cancelled = "cancelled"
	calledOff = "called_off"
)

func (e entry) trackingNumber() string { return fmt.Sprintf("SBX%010d", e.serial) }

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

// open locks the key's entry; a new key gets one first, because a row that is not there cannot be locked.
func open(ctx context.Context, tx *database.Tx, key string, at time.Time) (entry, error) {
	_, err := tx.ExecContext(ctx, `INSERT INTO sandbox_parcels (key, fingerprint, state, attempts, code, updated_at)
		VALUES ($1, '', 'open', 0, '', $2) ON CONFLICT (key) DO NOTHING`, key, at.UTC())
	if err != nil {
		return entry{}, fmt.Errorf("open %s: %w", key, database.Classify(err))
	}
	e := entry{key: key}
	err = tx.QueryRowContext(ctx, `SELECT serial, fingerprint, state, attempts, code
		FROM sandbox_parcels WHERE key = $1`+tx.ForUpdate(), key).
		Scan(&e.serial, &e.fingerprint, &e.state, &e.attempts, &e.code)
	if err != nil {
		return entry{}, fmt.Errorf("read %s: %w", key, database.Classify(err))
	}
	return e, nil
}

func save(ctx context.Context, tx *database.Tx, e entry, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE sandbox_parcels SET fingerprint = $2, state = $3, attempts = $4, code = $5,
		updated_at = $6 WHERE key = $1`, e.key, e.fingerprint, e.state, e.attempts, e.code, at.UTC())
	if err != nil {
		return fmt.Errorf("write %s: %w", e.key, database.Classify(err))
	}
	return nil
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
