//go:build faults

package inject_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/tests/faults/inject"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

// bin is where `make build-faults` puts the services.
const bin = "../../../bin/faults"

// system is an embedded stack that can be broken everywhere.
type system struct {
	*client.System
	stack     *stack.Stack
	network   *inject.Network
	processes *inject.Processes
	provider  *inject.Provider
}

func start(t *testing.T) *system {
	t.Helper()
	dir, services := t.TempDir(), []string{"order", "inventory", "payment", "shipping"}
	s := &system{network: inject.NewNetwork(services...)}
	t.Cleanup(func() { require.NoError(t, s.network.Close()) })
	var err error
	s.processes, err = inject.OpenProcesses(filepath.Join(dir, "failpoints"))
	require.NoError(t, err)
	s.provider, err = inject.OpenProvider()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.provider.Close()) })
	env := s.provider.Env()
	env[""] = s.processes.Env()
	env["payment"] = append(env["payment"], "PAYMENT_PROVIDER_TIMEOUT=1s")
	s.stack, err = stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: dir, Services: services, Env: env, Between: s.network.Between, ReadyTimeout: 4 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stack.Stop(context.Background())) })
	addresses := client.Addresses{URLs: map[string]string{}}
	for _, name := range services {
		addresses.URLs[name] = s.stack.URL(name)
	}
	s.System, err = client.New(addresses)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func request() orderapi.CreateOrderRequest {
	return orderapi.CreateOrderRequest{
		CustomerID: "ada", PaymentMethod: "tok_approved", Lines: []orderapi.Line{{SKU: "MUG-BLUE", Quantity: 1}},
		ShippingAddress: orderapi.Address{Name: "Ada", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE"},
	}
}

func (s *system) place(t *testing.T) orderapi.Order {
	t.Helper()
	o, err := s.Place(t.Context(), uuid.NewString(), request())
	require.NoError(t, err)
	return o
}

func (s *system) requireConfirmed(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o, err := s.Ended(ctx, id)
	require.NoError(t, err)
	require.Equal(t, orderapi.OrderStateConfirmed, o.State)
	e := s.provider.Books()["charge-"+id]
	require.True(t, e.Done && !e.Undone, "%+v", e)
}

func TestToolsBreakRealServices(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.requireConfirmed(t, s.place(t).OrderID)

	t.Run("a process dies between the provider's answer and its own note of it", func(t *testing.T) {
		disarm, err := s.processes.Arm("payment-1", failpoint.CallAnswered, inject.Die)
		require.NoError(t, err)
		_, err = s.processes.Arm("payment-1", failpoint.CallAnswered, inject.Die)
		require.ErrorIs(t, err, inject.ErrArmed)
		o := s.place(t)
		exit := <-s.stack.Exits()
		require.Equal(t, "payment", exit.Name)
		require.Equal(t, "signal: killed", exit.State)
		require.Contains(t, exit.Log, "failpoint call-answered: die")
		met, err := disarm()
		require.NoError(t, err)
		require.True(t, met)
		require.True(t, s.provider.Books()["charge-"+o.OrderID].Done)
		require.NoError(t, s.stack.Restart(t.Context(), "payment"))
		s.requireConfirmed(t, o.OrderID)
		require.Equal(t, 2, s.provider.Books()["charge-"+o.OrderID].Asked)
	})

	t.Run("a committed request is answered 503, and the same again the second time", func(t *testing.T) {
		_, err := s.processes.Arm("order-1", failpoint.RequestAfterCommit, inject.Fail)
		require.NoError(t, err)
		key := uuid.NewString()
		_, err = s.Place(t.Context(), key, request())
		requireStatus(t, err, http.StatusServiceUnavailable)
		o, err := s.Place(t.Context(), key, request())
		require.NoError(t, err)
		s.requireConfirmed(t, o.OrderID)
	})

	t.Run("a refused network", func(t *testing.T) {
		mend := s.network.Refuse(inject.Link{Service: "payment", Server: "kafka"})
		o := s.place(t)
		require.Never(t, func() bool { return s.provider.Books()["charge-"+o.OrderID].Asked > 0 }, time.Second, 50*time.Millisecond)
		mend()
		s.requireConfirmed(t, o.OrderID)
	})

	t.Run("a full disk is a 503, and nothing is lost", func(t *testing.T) {
		mend, err := inject.FullDisk(s.stack.PIDs()["order"])
		require.NoError(t, err)
		key := uuid.NewString()
		_, err = s.Place(t.Context(), key, request())
		requireStatus(t, err, http.StatusServiceUnavailable)
		require.NoError(t, mend())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var o orderapi.Order
		require.NoError(t, client.Eventually(ctx, func(ctx context.Context) (err error) {
			o, err = s.Place(ctx, key, request())
			return err
		}))
		s.requireConfirmed(t, o.OrderID)
	})

	t.Run("a clock that jumps", func(t *testing.T) {
		key := uuid.NewString()
		first, err := s.Place(t.Context(), key, request())
		require.NoError(t, err)
		s.requireConfirmed(t, first.OrderID) // what is under way when a clock comes forward again has missed its deadline
		for _, by := range []time.Duration{-30 * time.Minute, 25 * time.Hour} {
			mend, err := s.processes.SetClock("order-1", by)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				o := s.place(t)
				return time.Until(o.CreatedAt.Add(-by)).Abs() < 5*time.Minute
			}, soon, 20*time.Millisecond)
			again, err := s.Place(t.Context(), key, request())
			require.NoError(t, err)
			require.Equal(t, by < 24*time.Hour, again.OrderID == first.OrderID, "keys are kept for a day")
			require.NoError(t, mend())
			s.requireConfirmed(t, again.OrderID)
		}
	})
}

func requireStatus(t *testing.T, err error, status int) {
	t.Helper()
	var refused *client.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, status, refused.Status, "%v", err)
}
