package saga

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// Filter selects sagas; zero fields select all.
type Filter struct {
	Statuses []Status
	// Step is the one whose answer is awaited.
	Step string
	// Reason is why it is compensated: State.Reason.
	Reason string
	// StartedBefore selects those that were started by then.
	StartedBefore time.Time
	// After continues behind this saga in List's order.
	After Position
	// Limit is the most sagas returned.
	Limit int
}

// Position is a saga's place in List's order.
type Position struct {
	StartedAt time.Time `json:"at"`
	ID        string    `json:"id"`
}

// Statuses returns every status of a saga that was started.
func Statuses() []Status {
	return []Status{Running, Compensating, CompensationFailed, Completed, Compensated}
}

// List returns sagas, the oldest first. It asks the index for each status by itself, so that a page costs the same
// however many sagas there are; those that it must look at for Step are open ones.
func List(ctx context.Context, db *database.DB, f Filter) ([]State, error) {
	if len(f.Statuses) == 0 {
		f.Statuses = Statuses()
	}
	args := []any{instant(f.After.StartedAt), f.After.ID}
	arg := func(value any) string {
		args = append(args, value)
		return fmt.Sprintf("$%d", len(args))
	}
	where := "(created_at, id) > ($1, $2)"
	if !f.StartedBefore.IsZero() {
		where += " AND created_at <= " + arg(instant(f.StartedBefore))
	}
	if f.Step != "" {
		where += " AND step = " + arg(f.Step)
	}
	if f.Reason != "" {
		where += " AND reason <> '' AND reason = " + arg(f.Reason) // the first is the index's own condition
	}
	parts := make([]string, len(f.Statuses))
	for i, status := range f.Statuses {
		parts[i] = fmt.Sprintf(`SELECT * FROM (SELECT %s FROM sagas WHERE %s AND status = %s ORDER BY created_at, id LIMIT %s) AS s%d`,
			sagas.Columns(), where, arg(string(status)), arg(f.Limit), i)
	}
	rows, err := sagas.List(ctx, db, strings.Join(parts, " UNION ALL ")+" ORDER BY created_at, id LIMIT "+arg(f.Limit), args...)
	list := make([]State, len(rows))
	for i, row := range rows {
		list[i] = row.State
		if row.err != nil { // it is listed all the same, and hides no other
			list[i].Trouble = row.err.Error()
		}
	}
	return list, err
}
