// Package readme_test runs what the README says works as it stands.
package readme_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// addresses are the README's, of `make up`, and the variables that name the same services of the stack under test.
var addresses = map[string]string{
	"http://localhost:8080": "ORDER_URL", "http://localhost:8081": "INVENTORY_URL", "http://localhost:8082": "PAYMENT_URL",
	"http://localhost:8083": "SHIPPING_URL", "http://localhost:8084": "NOTIFICATION_URL", "http://localhost:8085": "ANALYTICS_URL",
}

func TestCurlLines(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)<!-- curl.*?```sh\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, block, "the README has no curl lines")
	script := string(block[1])
	require.Equal(t, 10, strings.Count(script, "curl "))
	for address, variable := range addresses {
		require.NotEmpty(t, os.Getenv(variable), "%s must be set: run this with `bin/orderctl run -- go test ./tests/...`", variable)
		script = strings.ReplaceAll(script, address, os.Getenv(variable))
	}
	// Every line stands alone: one that fails ends the script.
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script+"\ntest -n \"$ORDER\"")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{`"sku":"MUG-BLUE"`, `"steps":[`, `"available":`, `"currencies":`, `order_placed`, `event: notification`, `"revenue":`} {
		require.Contains(t, string(out), want)
	}
}
