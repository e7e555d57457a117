package deadletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/pkg/database"
)

// Settled tells whether a letter was redriven and handled, or discarded: nothing becomes of it any more.
func (s *Store) Settled(ctx context.Context, id string) (bool, error) {
	var state State
	err := s.db.QueryRowContext(ctx, `SELECT state FROM dead_letters WHERE id = $1`, printable(id)).Scan(&state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("look for dead letter %s: %w", id, database.Classify(err))
	}
	return state == Redriven || state == Discarded, nil
}
