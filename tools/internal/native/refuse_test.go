package native_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/internal/native"
)

func TestWhatIsMissingIsNamedInOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := native.Start(t.Context(), native.Options{Dir: filepath.Join(dir, "servers"), Libs: dir, Brokers: 1})
	require.ErrorContains(t, err, "the native stack needs ")
	require.ErrorContains(t, err, "Kafka's jars")
	require.ErrorContains(t, err, "run `make native-deps`")
	require.NotContains(t, err.Error(), "\n")
	require.NoDirExists(t, filepath.Join(dir, "servers"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "kafka_2.13-4.3.1.jar"), nil, 0o600))
	require.NotContains(t, native.Missing(dir), "Kafka's jars")
}
