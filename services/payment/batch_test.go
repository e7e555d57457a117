package payment_test

import (
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/payment"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

// Many commands at once share what they cost, and each ends as it would alone: one is declined, and one has a key that
// was used for another charge.
func TestManyChargesAtOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		s := stack(t)
		svc := testkit.Run(s, payment.Name, payment.Run, "DATABASE_URL="+url)
		outside := sandbox.New(sandbox.Config{}, databasetest.Open(t, url, map[string]fs.FS{"sandbox": sandbox.Migrations()}), time.Now, uuid.NewString)
		_, err := outside.Charge(t.Context(), provider.ChargeRequest{
			Key: "charge-order-7", Amount: events.Money{Amount: 1, Currency: "EUR"}, Method: approved,
		})
		require.NoError(t, err)

		const n = 300
		factory := event.NewFactory(source)
		commands := make([]event.Addressed, n)
		for i := range n {
			order, method := fmt.Sprintf("order-%d", i), approved
			if i == 8 {
				method = sandbox.TokenDeclined
			}
			e, err := factory.New(t.Context(), events.TypePaymentCharge, order, charge(order, method))
			require.NoError(t, err)
			commands[i] = event.Addressed{Topic: events.TopicPaymentCommands, Event: e}
		}
		before := 0
		if counted {
			before = statements()
		}
		s.SendAll(commands)
		testkit.Until(s, "every charge is answered", func() bool { return len(s.Records(events.TopicPaymentCharged)) == n-2 })
		if counted {
			require.Less(t, statements()-before, n, "each by itself takes about twelve")
		}
		_, declined := await[events.PaymentDeclined](t, s, "order-8", 1)
		require.Equal(t, "card_declined", declined.Reason.Code)
		l := letters(svc, 1)[0]
		require.Equal(t, commands[7].Event.ID, l.EventID)
		require.Equal(t, "permanent", l.ErrorType)
		require.Contains(t, l.Error, "used for another charge")
		require.Zero(t, l.Retries)
		require.Equal(t, 404, svc.Get("/v1/payments/order-7", nil))

		var totals paymentapi.PaymentTotals
		require.Equal(t, 200, svc.Get("/v1/payments/totals", &totals))
		require.Equal(t, []paymentapi.CurrencyTotals{{Currency: "EUR", Charged: (n - 2) * 2500, Charges: n - 2, Declines: 1}}, totals.Currencies)
		require.Equal(t, []paymentapi.CurrencyTotals{{Currency: "EUR", Charged: (n-2)*2500 + 1, Charges: n - 1, Declines: 1}}, *totals.Provider)
	})
}
