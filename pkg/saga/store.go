package saga

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations creates the table sagas: db.Migrate(ctx, "saga", saga.Migrations).
var Migrations = database.Folder(migrations)

// What the store says of an id. Both are permanent.
var (
	ErrNotFound = fault.Permanentf("saga: not found")
	ErrExists   = fault.Permanentf("saga: it exists already")
)

// Store keeps sagas in the caller's database and puts inputs to them.
type Store struct {
	defs    map[plan]*Definition
	metrics *metrics
}

// plan identifies a definition.
type plan struct {
	name    string
	version int
}

// NewStore returns a store for sagas of these definitions, all versions that may still have sagas running among them.
// Metrics are registered with reg, which may be nil.
func NewStore(reg prometheus.Registerer, defs ...*Definition) (*Store, error) {
	st := &Store{defs: make(map[plan]*Definition, len(defs))}
	for _, def := range defs {
		if err := def.Validate(); err != nil {
			return nil, err
		}
		p := plan{def.Name, def.Version}
		if st.defs[p] != nil {
			return nil, fault.Permanentf("saga definition %q: version %d comes twice", p.name, p.version)
		}
		st.defs[p] = def
	}
	st.metrics = newMetrics(reg)
	return st, nil
}

// Start creates and starts a saga under def. The caller sends the commands in the same transaction.
func (st *Store) Start(ctx context.Context, tx *database.Tx, def *Definition, id string, data json.RawMessage, at time.Time) (State, []Command, error) {
	if st.defs[plan{def.Name, def.Version}] == nil {
		return State{}, nil, fault.Permanentf("saga %s: the store does not know %s version %d", id, def.Name, def.Version)
	}
	s, commands, err := Decide(def, New(def, id, data), Start{At: at})
	if err != nil {
		return State{}, nil, err
	}
	s, err = st.Insert(ctx, tx, s)
	return s, commands, err
}

// Apply loads a saga under lock, decides under the definition that it was started with, and saves what changed.
// The caller sends the commands in the same transaction. With an error nothing was changed.
func (st *Store) Apply(ctx context.Context, tx *database.Tx, id string, in Input) (State, []Command, error) {
	before, err := st.Load(ctx, tx, id)
	if err != nil {
		return State{}, nil, err
	}
	def := st.defs[plan{before.Definition, before.DefinitionVersion}]
	if def == nil {
		// A newer replica began it, or this build forgot a plan that sagas still run under: that is no fault of the input,
		// which must wait for a process that knows.
		return before, nil, fault.Unavailablef("saga %s: this process does not know %s version %d", id, before.Definition, before.DefinitionVersion)
	}
	after, commands, err := Decide(def, before, in)
	if err != nil || !after.changedSince(before) {
		return before, nil, err
	}
	if after, err = st.Save(ctx, tx, after); err != nil {
		return before, nil, err
	}
	tx.AfterCommit(func() { st.metrics.observe(before, after, in) })
	return after, commands, nil
}

// changedSince holds because every change is journaled.
func (s State) changedSince(before State) bool {
	return len(s.Journal) != len(before.Journal) || s.JournalDropped != before.JournalDropped
}

// Load reads a saga and locks its row until the transaction ends. ErrNotFound when there is none.
func (st *Store) Load(ctx context.Context, tx *database.Tx, id string) (State, error) {
	if row, ok := database.AheadOf[ahead](tx).Get(id); ok {
		return row.State, nil
	}
	return scan(id, tx.QueryRowContext(ctx, selectState+tx.ForUpdate(), id))
}

// Get reads a saga as last committed, without a lock. ErrNotFound when there is none.
func (st *Store) Get(ctx context.Context, db *database.DB, id string) (State, error) {
	return scan(id, db.QueryRowContext(ctx, selectState, id))
}

const selectState = `SELECT version, state FROM sagas WHERE id = $1`

func scan(id string, row *sql.Row) (State, error) {
	var (
		s       State
		version int64
		text    string
	)
	switch err := row.Scan(&version, &text); {
	case errors.Is(err, sql.ErrNoRows):
		return State{}, fmt.Errorf("saga %s: %w", id, ErrNotFound)
	case err != nil:
		return State{}, fmt.Errorf("read saga %s: %w", id, database.Classify(err))
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return State{}, fault.Permanentf("read saga %s: %w", id, err)
	}
	s.Version = version
	return s, nil
}

// Insert writes a new saga and returns it with its version. ErrExists when the id is taken.
func (st *Store) Insert(ctx context.Context, tx *database.Tx, s State) (State, error) {
	s.Version = 1
	text, err := json.Marshal(s)
	if err != nil {
		return State{}, fault.Permanentf("write saga %s: %w", s.ID, err)
	}
	step, _ := s.Active()
	result, err := tx.ExecContext(ctx, `
		INSERT INTO sagas (id, definition, definition_version, version, status, step, state, next_deadline, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO NOTHING`,
		s.ID, s.Definition, s.DefinitionVersion, s.Version, string(s.Status), step.Name, string(text), nullable(s.NextDeadline()), s.StartedAt, s.UpdatedAt)
	return s, written(result, err, s.ID, ErrExists)
}

// Save writes a saga that Load returned and Decide changed, and returns it with its new version. When the row is no
// longer what was loaded it writes nothing and the error is transient.
func (st *Store) Save(ctx context.Context, tx *database.Tx, s State) (State, error) {
	if rows := database.AheadOf[ahead](tx); rows.Has(s.ID) {
		return saveAhead(rows, s)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return State{}, fault.Permanentf("write saga %s: %w", s.ID, err)
	}
	step, _ := s.Active()
	result, err := tx.ExecContext(ctx, `
		UPDATE sagas SET version = $1, status = $2, step = $3, state = $4, next_deadline = $5, updated_at = $6
		WHERE id = $7 AND version = $8`,
		s.Version+1, string(s.Status), step.Name, string(text), nullable(s.NextDeadline()), s.UpdatedAt, s.ID, s.Version)
	conflict := fault.Transientf("version %d is stale", s.Version)
	s.Version++
	return s, written(result, err, s.ID, conflict)
}

// written checks that exactly the one row was written; untouched is the error when it was not.
func written(result sql.Result, err error, id string, untouched error) error {
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n == 0 {
			return fmt.Errorf("write saga %s: %w", id, untouched)
		}
	}
	if err != nil {
		return fmt.Errorf("write saga %s: %w", id, database.Classify(err))
	}
	return nil
}

func nullable(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

// DueSaga is a saga whose deadline has passed, and its place in the order of deadlines.
type DueSaga struct {
	ID       string
	Deadline time.Time
}

// Due returns up to limit sagas whose deadline is at or before now, the oldest first, that come after the given one
// in that order; the zero DueSaga begins. It locks nothing: whoever acts on it decides again under lock.
func Due(ctx context.Context, db *database.DB, now time.Time, after DueSaga, limit int) (due []DueSaga, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT id, next_deadline FROM sagas
		WHERE next_deadline <= $1 AND (next_deadline > $2 OR (next_deadline = $2 AND id > $3))
		ORDER BY next_deadline, id LIMIT $4`, instant(now), instant(after.Deadline), after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("read due sagas: %w", database.Classify(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var d DueSaga
		if err := rows.Scan(&d.ID, &d.Deadline); err != nil {
			return nil, fmt.Errorf("read due sagas: %w", database.Classify(err))
		}
		due = append(due, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read due sagas: %w", database.Classify(err))
	}
	return due, nil
}
