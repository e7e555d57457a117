package shipping_test

import (
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/shipping"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

// Many commands at once share what they cost, and each ends as it would alone: one is refused, and one has a key that
// was used for another parcel.
func TestManyParcelsAtOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		s := stack(t)
		svc := testkit.Run(s, shipping.Name, shipping.Run, "DATABASE_URL="+url)
		outside := sandbox.New(sandbox.Config{}, databasetest.Open(t, url, map[string]fs.FS{"sandbox": sandbox.Migrations()}), time.Now)
		_, err := outside.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-order-7"})
		require.NoError(t, err)

		const n = 300
		factory := event.NewFactory(source)
		commands := make([]event.Addressed, n)
		for i := range n {
			order := fmt.Sprintf("order-%d", i)
			command := arrange(order, "Berlin")
			if i == 8 {
				command.Address.Country = sandbox.CountryAntarctica
			}
			e, err := factory.New(t.Context(), events.TypeShippingArrange, order, command)
			require.NoError(t, err)
			commands[i] = event.Addressed{Topic: events.TopicShippingCommands, Event: e}
		}
		before := 0
		if counted {
			before = statements()
		}
		s.SendAll(commands)
		testkit.Until(s, "every parcel is answered", func() bool { return len(s.Records(events.TopicShippingArranged)) == n-2 })
		if counted {
			require.Less(t, statements()-before, n, "each by itself takes about twelve")
		}
		_, failed := await[events.ShippingFailed](t, s, "order-8", 1)
		require.Equal(t, "region_not_served", failed.Reason.Code)
		l := letters(svc, 1)[0]
		require.Equal(t, commands[7].Event.ID, l.EventID)
		require.Equal(t, "permanent", l.ErrorType)
		require.Contains(t, l.Error, "used for another parcel")
		require.Zero(t, l.Retries)
		require.Equal(t, 404, svc.Get("/v1/shipments/order-7", nil))

		var totals shippingapi.ShipmentTotals
		require.Equal(t, 200, svc.Get("/v1/shipments/totals", &totals))
		require.Equal(t, shippingapi.ShipmentTotals{Arranged: n - 2, Refused: 1}, totals)
		counts, err := outside.Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, sandbox.Counts{Arranged: n - 1}, counts)
	})
}
