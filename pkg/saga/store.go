package saga

import (
	"bytes"
	"context"
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
	rules   map[plan]Rule // by where they lead from
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
	st := &Store{defs: make(map[plan]*Definition, len(defs)), rules: map[plan]Rule{}}
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

// Apply loads a saga under lock, decides under the definition that it was started with, or that a Rule moves it to, and
// saves what changed. The caller sends the commands in the same transaction. With an error nothing was changed.
func (st *Store) Apply(ctx context.Context, tx *database.Tx, id string, in Input) (State, []Command, error) {
	before, err := st.Load(ctx, tx, id)
	if err != nil {
		return State{}, nil, err
	}
	moved, def, rules, err := st.moved(before)
	if err != nil {
		return before, nil, err
	}
	after, commands, err := Decide(def, moved, in)
	if err != nil || !after.changedSince(before) {
		return before, nil, err
	}
	for _, r := range rules {
		after = r.note(after, in.when())
	}
	if after, err = st.Save(ctx, tx, after); err != nil {
		return before, nil, err
	}
	tx.AfterCommit(func() { st.metrics.observe(before, after, in) })
	return after, commands, nil
}

// definition is the one that a saga stands under.
func (st *Store) definition(s State) (*Definition, error) {
	def := st.defs[plan{s.Definition, s.DefinitionVersion}]
	if def == nil {
		// A newer replica began it, or this build forgot a plan that sagas still run under: that is no fault of the input,
		// which must wait for a process that knows.
		return nil, fault.Unavailablef("saga %s: this process does not know %s version %d", s.ID, s.Definition, s.DefinitionVersion)
	}
	return def, nil
}

// Offers are what an operator may do with a saga as it stands; see Offer.
func (st *Store) Offers(s State, at time.Time) ([]Offer, error) {
	s, def, _, err := st.moved(s)
	if err != nil {
		return nil, err
	}
	return offers(def, s, at), nil
}

// changedSince holds because every change is journaled.
func (s State) changedSince(before State) bool {
	return len(s.Journal) != len(before.Journal) || s.JournalDropped != before.JournalDropped
}

// row is a saga as the table has it, or why it cannot be read.
type row struct {
	State
	text string // to be written
	err  error
}

var sagas = &database.Table[row]{
	Name: "sagas", Exists: ErrExists,
	Fields: []database.Field[row]{
		database.Text("id", func(r row) string { return r.ID }),
		database.Text("definition", func(r row) string { return r.Definition }).Fixed(),
		database.Int("definition_version", func(r row) int64 { return int64(r.DefinitionVersion) }),
		database.Int("version", func(r row) int64 { return r.Version }),
		database.Text("status", func(r row) string { return string(r.Status) }),
		database.Text("step", func(r row) string {
			step, _ := r.Active()
			return step.Name
		}),
		database.Text("state", func(r row) string { return r.text }),
		database.TimeOrNull("next_deadline", func(r row) time.Time { return r.NextDeadline() }),
		database.Time("created_at", func(r row) time.Time { return r.StartedAt }).Fixed(),
		database.Time("updated_at", func(r row) time.Time { return r.UpdatedAt }),
		database.Text("reason", func(r row) string { return r.Reason }),
	},
	Scan: func(columns database.Scanner) (row, error) {
		var (
			r       row
			id      string
			text    []byte
			version int64
			status  Status
			created time.Time
			skip    any
		)
		if err := columns.Scan(&id, &skip, &skip, &version, &status, &skip, &text, &skip, &created, &skip, &skip); err != nil {
			return r, err
		}
		// Room for what there is, at once.
		r.Steps = make([]StepState, 0, bytes.Count(text, []byte(`"name":`)))
		r.Journal = make([]Entry, 0, bytes.Count(text, []byte(`"kind":`)))
		if err := json.Unmarshal(text, &r.State); err != nil {
			r.err = fault.Permanentf("read saga %s: %w", id, err) // no other's business
			r.State = State{Status: status, StartedAt: created.UTC()}
		}
		r.ID, r.Version = id, version
		return r, nil
	},
}

// found is the state in a row that was asked for.
func (r row) found(id string, there bool, err error) (State, error) {
	switch {
	case err != nil:
		return State{}, fmt.Errorf("saga %s: %w", id, err)
	case !there:
		return State{}, fmt.Errorf("saga %s: %w", id, ErrNotFound)
	}
	return r.State, r.err
}

// ReadAhead reads and locks the sagas with these ids, those that there are, in one statement: Load, Save and Apply then
// need none.
func (st *Store) ReadAhead(ctx context.Context, tx *database.Tx, ids []string) error {
	return sagas.Ahead(ctx, tx, ids...)
}

// Load reads a saga and locks its row until the transaction ends. ErrNotFound when there is none.
func (st *Store) Load(ctx context.Context, tx *database.Tx, id string) (State, error) {
	r, there, err := sagas.Load(ctx, tx, id)
	return r.found(id, there, err)
}

// Get reads a saga as last committed, without a lock. ErrNotFound when there is none.
func (st *Store) Get(ctx context.Context, db *database.DB, id string) (State, error) {
	r, there, err := sagas.Get(ctx, db, id)
	return r.found(id, there, err)
}

// Insert writes a new saga before the commit, which fails with ErrExists when the id is taken, and returns it with its
// version.
func (st *Store) Insert(_ context.Context, tx *database.Tx, s State) (State, error) {
	s.Version = 1
	return s, put(tx, s)
}

// Save writes, before the commit, a saga that Load returned and Decide changed, and returns it with its new version. When
// the row is no longer what was loaded it writes nothing and the error is transient.
func (st *Store) Save(ctx context.Context, tx *database.Tx, s State) (State, error) {
	present, err := st.Load(ctx, tx, s.ID)
	if err != nil {
		return s, err
	}
	if present.Version != s.Version {
		return s, fault.Transientf("write saga %s: version %d is stale", s.ID, s.Version)
	}
	s.Version++
	return s, put(tx, s)
}

func put(tx *database.Tx, s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fault.Permanentf("write saga %s: %w", s.ID, err)
	}
	sagas.Put(tx, row{State: s, text: string(text)})
	return nil
}

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
