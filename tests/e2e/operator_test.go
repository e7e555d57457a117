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

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tests/internal/shop"
)

// orderctl runs a command as an operator does and returns what it prints; it must exit with the code given. It is nil where
// ORDERCTL does not say which program that is: orderctl run sets it.
func orderctl(t *testing.T) func(code int, args ...string) string {
	t.Helper()
	program := os.Getenv("ORDERCTL")
	if program == "" {
		t.Log("ORDERCTL is not set: its commands are not part of this run")
		return nil
	}
	return func(code int, args ...string) string {
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
}

// TestOperatorsCommands drives orderctl through a dead letter's life.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	orderctl := orderctl(t)
	if orderctl == nil {
		return
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
	shop.Eventually(t, again("inventory", l.ID, 2))
	orderctl(0, "dlq", "edit", l.ID, "--value={}", "--actor=e2e", "--reason=an object at least")
	selected := []string{"dlq", "redrive", "--service=inventory", "--key=" + *l.Key, "--canary=1", "--actor=e2e", "--reason=all of them"}
	require.Contains(t, orderctl(0, append(selected, "--dry-run")...), "1 dead letters to redrive, by cause:")
	require.Contains(t, orderctl(1, selected...), "a letter of the canary of 1 failed again")
	require.NoError(t, again("inventory", l.ID, 3)(shop.Context(t)))
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

// again waits until a dead letter of a service has failed so often, and waits for the next verb.
func again(service, id string, failures int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		l, err := system.Letter(ctx, service, id)
		if err == nil && (l.Failures != failures || l.State != letters.StateFailedAgain) {
			err = fmt.Errorf("dead letter %s is %s after %d failures", id, l.State, l.Failures)
		}
		return err
	}
}

// TestOperatorMendsASaga: an order whose payment is silent, and whose answers wait behind a broken one, is stuck for good.
// An operator finds it, sees what waits and why, and takes it to its end; every verb is pressed twice, and what is refused
// changes nothing.
func TestOperatorMendsASaga(t *testing.T) {
	t.Parallel()
	orderctl := orderctl(t)
	if orderctl == nil {
		return
	}
	c := system.Customer(t)
	id := c.Place(shop.Paying("tok_timeout")).OrderID
	waitsFor := func(want string) orderapi.Saga { t.Helper(); return waitsFor(t, id, want) }
	letter, parked := blocked(t, orderctl, id)
	require.Contains(t, orderctl(0, "parked", "list", "--state=blocked", "--limit=1000"), id)
	require.Contains(t, orderctl(0, "parked", "show", id), "orderctl dlq discard "+letter+" --service=order")
	for _, pointer := range []string{orderctl(0, "saga", "show", id), orderctl(0, "order", "timeline", id)} {
		require.Contains(t, pointer, "for dead letter "+letter)
		require.Contains(t, pointer, "'orderctl parked show "+id+"'")
	}
	require.Contains(t, orderctl(0, "saga", "list", "--state=running", "--step=charge_payment", "--limit=1000"), id)

	// press presses a verb twice, which answer alike, and then on the version that is past, where there is another verb's word.
	press := func(verb string, version int64, more ...string) {
		t.Helper()
		args := append([]string{"saga", verb, id, fmt.Sprint("--version=", version), "--actor=e2e", "--reason=the test says so"}, more...)
		require.Equal(t, orderctl(0, args...), orderctl(0, args...), "the second changes nothing")
	}
	refused := func(says, verb string, version int64, more ...string) {
		t.Helper()
		before, err := system.Saga(shop.Context(t), id)
		require.NoError(t, err)
		args := append([]string{"saga", verb, id, fmt.Sprint("--version=", version), "--actor=e2e", "--reason=wrong"}, more...)
		require.Contains(t, orderctl(1, args...), says)
		after, err := system.Saga(shop.Context(t), id)
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
	stuck := waitsFor("do charge_payment")
	refused("the steps after it rely on it", "skip", stuck.Version, "--step=charge_payment")
	refused("its steps are reserve_stock, charge_payment, arrange_shipping", "skip", stuck.Version, "--step=pay")
	press("compensate", stuck.Version)
	undoing := waitsFor("undo charge_payment")
	refused(fmt.Sprintf("it is at version %d, not %d", undoing.Version, stuck.Version), "retry", stuck.Version)
	press("retry", undoing.Version)
	retried := waitsFor("undo charge_payment")
	require.Equal(t, 2, retried.WaitsFor.Attempt)
	// The provider has given the money back, or never took it; the answers wait with the others.
	shop.Eventually(t, parked("payment.refunded"))
	press("skip", retried.Version, "--step=charge_payment")
	waitsFor("undo reserve_stock")
	shop.Eventually(t, parked("inventory.released"))

	for range 2 {
		require.Contains(t, orderctl(0, "dlq", "discard", letter, "--service=order", "--actor=e2e", "--reason=it is no message"), "discarded")
	}
	o := c.Await(id)
	shop.Cancelled(t, o, "cancelled_by_operator")
	participants(t, o, "voided", "released", nothing)
	shown := orderctl(0, "saga", "show", id)
	require.Contains(t, shown, "There is nothing that you may do with it now.")
	for _, verb := range []string{"operator compensate", "operator retry", "operator skip"} {
		require.Equal(t, 1, strings.Count(shown, verb+" "), "%s in\n%s", verb, shown)
	}
	shop.Eventually(t, func(context.Context) error {
		if all := orderctl(0, "parked", "list", "--key="+id); !strings.Contains(all, "No keys like that wait.") {
			return fmt.Errorf("still parked: %s", all)
		}
		return nil
	})
	require.Contains(t, orderctl(1, "parked", "show", id), "nothing of key "+id+" waits at order, inventory")
	system.Discarded(t, "payment", system.DeadLetter(t, "payment", shop.About(id)).ID)
	shop.Eventually(t, func(context.Context) error {
		return inOrder(orderctl(0, "order", "timeline", id),
			"order placed", "command sent do charge_payment", "inventory.reserved given up", "operator compensate", "command sent undo charge_payment",
			"operator retry", "operator skip", "discard of dead letter "+letter, "operator e2e: it is no message", "finished: compensated", "customer told: ")
	})
}

// waitsFor waits until an order's saga waits for the answer to a command.
func waitsFor(t *testing.T, id, want string) (s orderapi.Saga) {
	t.Helper()
	shop.Eventually(t, func(ctx context.Context) error {
		d, err := system.Saga(ctx, id)
		if err != nil {
			return err
		}
		if s = d.Saga; s.WaitsFor == nil || fmt.Sprintf("%s %s", s.WaitsFor.Command, s.WaitsFor.Step) != want {
			return fmt.Errorf("saga %s is %s and waits for %v, must wait for %s", id, s.State, s.WaitsFor, want)
		}
		return nil
	})
	return s
}

// blocked puts a broken answer to an order's saga, whose answers wait behind it then, and returns its dead letter, and what
// waits until one from a topic does. No deadline of the saga passes meanwhile.
func blocked(t *testing.T, orderctl func(code int, args ...string) string, id string) (letter string, parked func(topic string) func(ctx context.Context) error) {
	t.Helper()
	waitsFor(t, id, "do charge_payment")
	placed, err := system.Topics.Send(message("inventory.reserved", "inventory.reserved", id, `{"order_id":17}`))
	require.NoError(t, err)
	letter = system.DeadLetter(t, "order", shop.At(placed.Topic, placed.Partition, placed.Offset)).ID
	parked = func(topic string) func(ctx context.Context) error {
		return func(context.Context) error {
			var all []struct{ Topic, State, Letter string }
			if err := json.Unmarshal([]byte(orderctl(0, "parked", "list", "--service=order", "--key="+id, "--topic="+topic, "--json")), &all); err != nil {
				return err
			}
			if len(all) != 1 || all[0].State != "blocked" || all[0].Letter != letter {
				return fmt.Errorf("of %s wait %v, must be one key blocked by %s", topic, all, letter)
			}
			return nil
		}
	}
	shop.Eventually(t, parked("inventory.reserved"))
	return letter, parked
}
