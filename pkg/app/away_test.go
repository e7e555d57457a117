package app_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// An attempt that takes long, because what is away answers nobody, does not look as if it were back.
func TestAwayWhileItIsTriedAgain(t *testing.T) {
	t.Parallel()
	asked, answers := make(chan struct{}, 8), make(chan error)
	s, svc := start(t, &adder{call: func(event.Event) error {
		asked <- struct{}{}
		return <-answers
	}})
	t.Cleanup(func() { close(answers) })
	s.Send("/test", "k", numberGiven{N: 5})
	<-asked
	require.Equal(t, http.StatusOK, svc.Get("/readyz", nil))
	for range 2 {
		answers <- fault.Unavailablef("the provider is on holiday")
		<-asked
		require.Equal(t, http.StatusServiceUnavailable, svc.Get("/readyz", nil))
	}
	answers <- nil
	testkit.Await[sumChanged](s, "k", 1)
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
}
