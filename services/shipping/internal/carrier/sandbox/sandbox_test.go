package sandbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/carriertest"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

func TestSandboxKeepsThePromise(t *testing.T) {
	t.Parallel()
	carriertest.Run(t, func(t *testing.T) carriertest.Subject {
		db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/sandbox.db")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
		s := sandbox.New(sandbox.Config{Slow: carriertest.Slow, Timeout: time.Second}, db, time.Now)
		return carriertest.Subject{Carrier: s, Count: s.Count}
	})
}
