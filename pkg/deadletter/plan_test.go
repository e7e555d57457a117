package deadletter

import (
	"database/sql"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

func planOf(rows *sql.Rows, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var what string
		if err := rows.Scan(&id, &parent, &unused, &what); err != nil {
			return "", err
		}
		plan.WriteString(what + "\n")
	}
	return plan.String(), rows.Err()
}

// A page is a walk along an index and not a look at every letter: neither to find them nor to sort them.
func TestListsGoByAnIndex(t *testing.T) {
	t.Parallel()
	db := databasetest.Open(t, "sqlite:"+t.TempDir()+"/test.db", map[string]fs.FS{"dead_letters": Migrations})
	for _, f := range []Filter{
		{},
		{State: Open},
		{State: Redriven},
		{Topic: "t"},
		{Cause: "c"},
		{Key: "k"},
		{Text: "x"},
		{Since: time.Unix(1, 0)},
		{State: Open, Topic: "t", Cause: "c", Until: time.Unix(9, 0)},
	} {
		for _, after := range []Position{{}, {FailedAt: time.Unix(5, 0), ID: "t-0-1"}} {
			query, args := f.behind(after).query(lastFirst, 50)
			plan, err := planOf(db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...))
			require.NoError(t, err)
			require.Contains(t, plan, "USING INDEX dead_letters_", "%+v", f)
			if f.Key == "" { // a key's letters are few
				require.NotContains(t, plan, "TEMP B-TREE", "%+v", f)
			}
			if after.ID != "" && f.Key == "" {
				require.True(t, strings.Contains(plan, "failed_at<?") || strings.Contains(plan, "failed_at>?"), "it begins where the page before ended: %s", plan)
			}
		}
	}
}
