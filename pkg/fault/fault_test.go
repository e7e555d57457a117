package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, tc := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"no mark":            {cause, fault.Transient},
		"permanent":          {fault.AsPermanent(cause), fault.Permanent},
		"survives wrapping":  {fmt.Errorf("a: %w", fmt.Errorf("b: %w", fault.AsUnavailable(cause))), fault.Unavailable},
		"outermost wins":     {fault.AsPermanent(fmt.Errorf("x: %w", fault.AsUnavailable(cause))), fault.Permanent},
		"cancelled":          {fmt.Errorf("x: %w", context.Canceled), fault.Unavailable},
		"deadline":           {context.DeadlineExceeded, fault.Transient},
		"a mark over cancel": {fault.Transientf("x: %w", context.Canceled), fault.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, fault.KindOf(tc.err))
		})
	}
	require.ErrorIs(t, fault.AsPermanent(cause), cause)
	require.NoError(t, fault.AsPermanent(nil))
}
