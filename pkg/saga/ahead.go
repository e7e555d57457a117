package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
)

// ahead is a saga that was read ahead.
type ahead struct {
	State
	loaded int64 // its version in the database
}

// ReadAhead reads and locks the sagas with these ids, those that there are, in one statement. Load, Save and Apply then
// need none in tx: what they changed is written in one statement before the commit.
func (st *Store) ReadAhead(ctx context.Context, tx *database.Tx, ids []string) error {
	rows := make(map[string]ahead, len(ids))
	for chunk := range slices.Chunk(ids, database.MaxRows) {
		if err := readAhead(ctx, tx, chunk, rows); err != nil {
			return fmt.Errorf("read %d sagas: %w", len(chunk), database.Classify(err))
		}
	}
	database.ReadAhead(tx, rows, func(ctx context.Context, changed []ahead) error {
		for chunk := range slices.Chunk(changed, database.MaxRows) {
			if err := writeAhead(ctx, tx, chunk); err != nil {
				return fmt.Errorf("write %d sagas: %w", len(chunk), database.Classify(err))
			}
		}
		return nil
	})
	return nil
}

func readAhead(ctx context.Context, tx *database.Tx, ids []string, into map[string]ahead) (err error) {
	in, args := tx.Dialect().In(ids)
	// In one order, so that transactions that read the same ones ahead wait for each other and never in a circle.
	rows, err := tx.QueryContext(ctx, `SELECT id, version, state FROM sagas WHERE id `+in+` ORDER BY id`+tx.ForUpdate(), args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, text string
		var row ahead
		if err := rows.Scan(&id, &row.loaded, &text); err != nil {
			return err
		}
		if json.Unmarshal([]byte(text), &row.State) != nil {
			continue // whoever asks for it reads it, and says so
		}
		row.Version = row.loaded
		into[id] = row
	}
	return rows.Err()
}

func saveAhead(rows *database.Ahead[ahead], s State) (State, error) {
	row, _ := rows.Get(s.ID)
	if row.Version != s.Version {
		return s, fault.Transientf("write saga %s: version %d is stale", s.ID, s.Version)
	}
	s.Version++
	row.State = s
	rows.Put(s.ID, row)
	return s, nil
}

func writeAhead(ctx context.Context, tx *database.Tx, changed []ahead) error {
	n := len(changed)
	ids, statuses, steps, states := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	loaded, versions, deadlines, updated := make([]int64, n), make([]int64, n), make([]time.Time, n), make([]time.Time, n)
	for i, row := range changed {
		text, err := json.Marshal(row.State)
		if err != nil {
			return fault.Permanentf("write saga %s: %w", row.ID, err)
		}
		step, _ := row.Active()
		ids[i], statuses[i], steps[i], states[i] = row.ID, string(row.Status), step.Name, string(text)
		loaded[i], versions[i], deadlines[i], updated[i] = row.loaded, row.Version, row.NextDeadline(), row.UpdatedAt
	}
	values, args := tx.Dialect().Columns(database.Texts(ids), database.Ints(loaded), database.Ints(versions), database.Texts(statuses),
		database.Texts(steps), database.Texts(states), database.TimesOrNull(deadlines), database.Times(updated))
	result, err := tx.ExecContext(ctx, `WITH v (id, loaded, version, status, step, state, next_deadline, updated_at) AS (`+values+`)
		UPDATE sagas SET version = v.version, status = v.status, step = v.step, state = v.state,
			next_deadline = v.next_deadline, updated_at = v.updated_at
		FROM v WHERE sagas.id = v.id AND sagas.version = v.loaded`, args...)
	if err != nil {
		return err
	}
	if written, err := result.RowsAffected(); err != nil || written != int64(n) {
		return errors.Join(err, fault.Transientf("%d of their versions are stale", int64(n)-written))
	}
	return nil
}
