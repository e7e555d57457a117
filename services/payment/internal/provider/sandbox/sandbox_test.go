package sandbox_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/provider/providertest"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

func TestSandboxKeepsThePromise(t *testing.T) {
	t.Parallel()
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/sandbox.db")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
		s := sandbox.New(sandbox.Config{Slow: providertest.Slow, Timeout: time.Second}, db, time.Now, uuid.NewString)
		return providertest.Subject{Provider: s, Totals: s.Totals}
	})
}
