package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tests/internal/shop"
)

// TestOperatorsCommands drives orderctl as an operator does, where ORDERCTL says which one: orderctl run sets it.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	program := os.Getenv("ORDERCTL")
	if program == "" {
		t.Log("ORDERCTL is not set: its commands are not part of this run")
		return
	}
	orderctl := func(code int, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(shop.Context(t), program, args...).CombinedOutput()
		if code == 0 {
			require.NoError(t, err, "%s", out)
			return string(out)
		}
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", out)
		require.Equal(t, code, exit.ExitCode(), "%s", out)
		return string(out)
	}
	c := system.Customer(t)
	o := c.Buy()
	shop.Confirmed(t, o)
	require.Contains(t, orderctl(0, "order", "timeline", o.OrderID), "finished: completed")
	// The order is confirmed a moment before that stands in a topic.
	shop.Eventually(t, func(context.Context) error {
		if told := orderctl(0, "story", o.OrderID); !strings.Contains(told, "order.confirmed") {
			return fmt.Errorf("the story has no order.confirmed yet: %s", told)
		}
		return nil
	})

	placed, err := system.Topics.Send(message("inventory.commands", "inventory.reserve", c.NewID("nobody"), `no JSON`))
	require.NoError(t, err)
	l := system.DeadLetter(t, "inventory", shop.At(placed.Topic, placed.Partition, placed.Offset))
	require.Contains(t, orderctl(0, "dlq", "list", "--service=inventory", "--state=waiting"), l.ID)
	require.Contains(t, orderctl(0, "dlq", "show", l.ID), "no JSON")

	require.Contains(t, orderctl(0, "dlq", "causes", "--service=inventory", "--key="+*l.Key), "must be one JSON value")

	// Handed back as it is, it fails again: one letter, one failure more. So does one with another wrong body.
	orderctl(0, "dlq", "redrive", l.ID, "--actor=e2e", "--reason=try again")
	shop.Eventually(t, again(l.ID, 2))
	orderctl(0, "dlq", "edit", l.ID, "--value={}", "--actor=e2e", "--reason=an object at least")
	selected := []string{"dlq", "redrive", "--service=inventory", "--key=" + *l.Key, "--canary=1", "--actor=e2e", "--reason=all of them"}
	require.Contains(t, orderctl(0, append(selected, "--dry-run")...), "1 dead letters to redrive, by cause:")
	require.Contains(t, orderctl(1, selected...), "a letter of the canary of 1 failed again")
	require.NoError(t, again(l.ID, 3)(shop.Context(t)))
	require.Contains(t, orderctl(0, "dlq", "jobs", "--service=inventory"), "all of them")
	trail := orderctl(0, "dlq", "audit", "--service=inventory", "--letter="+l.ID)
	require.Contains(t, trail, "all of them (job ")
	require.Contains(t, trail, "an object at least (2 bytes in the place of 7)")
	require.Contains(t, orderctl(0, "dlq", "discard", l.ID, "--actor=e2e", "--reason=it is no message"), "discarded")
	require.Contains(t, orderctl(1, "dlq", "redrive", l.ID, "--actor=e2e", "--reason=too late"), "discarded")

	var shown struct{ State, Actor, Reason string }
	require.NoError(t, json.Unmarshal([]byte(orderctl(0, "dlq", "show", l.ID, "--json")), &shown))
	require.Equal(t, "discarded", shown.State)
	require.Equal(t, "e2e", shown.Actor)
	require.Equal(t, "it is no message", shown.Reason)
}

// again waits until a dead letter of inventory has failed so often, and waits for the next verb.
func again(id string, failures int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		l, err := system.Letter(ctx, "inventory", id)
		if err == nil && (l.Failures != failures || l.State != letters.StateFailedAgain) {
			err = fmt.Errorf("dead letter %s is %s after %d failures", id, l.State, l.Failures)
		}
		return err
	}
}
