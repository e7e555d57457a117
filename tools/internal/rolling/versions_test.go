//go:build native

package rolling_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/overlay"
)

// A version to come: the order service says through which channel an order came, to those that it sends commands to.
var changes = []overlay.Change{
	{File: "api/schemas/payment.charge.json", Old: `"payment_method": {`, New: `"channel": {"description": "Where the order came in.", "type": "string"}, "payment_method": {`},
	{File: "api/events/payment.go", Old: "PaymentMethod string `json:\"payment_method\"`", New: "PaymentMethod string `json:\"payment_method\"`\nChannel string `json:\"channel,omitempty\"`"},
	{File: "services/order/internal/fulfilment/plan.go", Old: "PaymentMethod: o.PaymentMethod}", New: "PaymentMethod: o.PaymentMethod, Channel: \"web\"}"},
}

// nextVersion builds the order service with the changes, and returns the binary's path. `make verify` would let them in.
func nextVersion(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	contracts, binary := filepath.Join(dir, "api"), filepath.Join(dir, "order")
	require.NoError(t, os.CopyFS(contracts, os.DirFS(filepath.Join(root, "api"))))
	texts, err := overlay.Apply(root, changes...)
	require.NoError(t, err)
	for path, text := range texts {
		if inside, of := strings.CutPrefix(path, filepath.Join(root, "api")); of {
			require.NoError(t, os.WriteFile(filepath.Join(contracts, inside), []byte(text), 0o600))
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "contracts"), "check", contracts).CombinedOutput()
	require.NoError(t, err, string(out))

	laid, err := overlay.Write(root, dir, changes...)
	require.NoError(t, err)
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", laid, "-o", binary, "./services/order/cmd/order")
	build.Dir = root
	out, err = build.CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

// deployed is a folder from which services are started: each binary of bin, which deploy can replace.
func deployed(t *testing.T, bin string) string {
	t.Helper()
	dir := t.TempDir()
	for _, service := range client.Services() {
		deploy(t, dir, service, filepath.Join(bin, service))
	}
	return dir
}

// deploy has a service's replicas be another binary when they are started the next time.
func deploy(t *testing.T, dir, service, binary string) {
	t.Helper()
	binary, err := filepath.Abs(binary)
	require.NoError(t, err)
	path := filepath.Join(dir, service)
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.Symlink(binary, path))
}

// withoutDrain is a program that runs binary with no time to be unready before it stops.
func withoutDrain(t *testing.T, binary string) string {
	t.Helper()
	binary, err := filepath.Abs(binary)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "without-drain")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nDRAIN_DELAY=0s exec "+binary+" \"$@\"\n"), 0o700))
	return path
}

// commands reads the topic of the payment service's commands.
type commands struct {
	cfg   kafka.Config
	admin *kafka.Admin
}

func openCommands(t *testing.T, brokers []string) commands {
	t.Helper()
	cfg := kafka.Config{Brokers: brokers, ClientID: "rolling"}
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	return commands{cfg, admin}
}

// sent is what was sent in each phase: by the old version (false) and by the new one (true).
func (c commands) sent(ctx context.Context, phases []*phase) ([]map[bool]int, error) {
	ranges, err := c.admin.Ranges(ctx, events.TopicPaymentCommands)
	if err != nil {
		return nil, err
	}
	sent := make([]map[bool]int, len(phases))
	for i := range sent {
		sent[i] = map[bool]int{}
	}
	return sent, kafka.Read(ctx, c.cfg, events.TopicPaymentCommands, ranges, func(r kafka.Record) {
		in := slices.IndexFunc(phases, func(p *phase) bool { return p.began.After(r.Timestamp) })
		if in < 0 {
			in = len(phases)
		}
		if in > 0 && r.Headers["ce_type"] == events.TypePaymentCharge {
			sent[in-1][strings.Contains(string(r.Value), `"channel":"web"`)]++
		}
	})
}

// until waits until a version has sent in the last phase.
func (c commands) until(t *testing.T, phases []*phase, next bool) {
	t.Helper()
	var last error
	require.Eventually(t, func() bool {
		sent, err := c.sent(t.Context(), phases)
		last = err
		return err == nil && sent[len(phases)-1][next] > 0
	}, patience, probeEvery, "the new version (%t) sends in the phase %q: %v", next, phases[len(phases)-1].name, last)
}

// twoVersions holds the topic against the phases: both versions have sent, one beside the other and then one after the
// other, and what either sent was taken for what it is by services that know one of them.
func (c commands) twoVersions(t *testing.T, phases []*phase) {
	t.Helper()
	var sent []map[bool]int
	require.Eventually(t, func() (ok bool) {
		var err error
		sent, err = c.sent(t.Context(), phases)
		return err == nil
	}, patience, probeEvery, "Kafka says what it has")
	for i, p := range phases {
		t.Logf("%-33s commands of the old version: %d, of the new one: %d", p.name, sent[i][false], sent[i][true])
		switch p.name {
		case "before":
			require.Zero(t, sent[i][true], p.name)
		case "two versions":
			require.NotZero(t, sent[i][false], p.name)
			require.NotZero(t, sent[i][true], p.name)
		case "between":
			require.NotZero(t, sent[i][true], p.name)
		case "after":
			require.NotZero(t, sent[i][false], "the old version is back")
		}
	}
}
