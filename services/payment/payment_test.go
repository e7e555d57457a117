package payment_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/payment"
	"github.com/orderflow/orderflow/services/payment/internal/provider/providertest"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

func TestCharge(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	goes := []string{sandbox.TokenApproved, sandbox.TokenSlow, sandbox.TokenFailTwice, sandbox.TokenAmbiguous}
	for _, token := range goes {
		s.Send(source, "order-"+token, charge("order-"+token, token))
	}
	declines := map[string]string{
		sandbox.TokenDeclined: "card_declined", sandbox.TokenInsufficientFunds: "insufficient_funds", "tok_of_nobody": "invalid_payment_method",
	}
	for token := range declines {
		s.Send(source, "order-"+token, charge("order-"+token, token))
	}
	for _, token := range goes {
		order := "order-" + token
		e, charged := await[events.PaymentCharged](t, s, order, 1)
		require.Equal(t, order, e.CorrelationID)
		require.NotEmpty(t, e.CausationID)
		require.Equal(t, price, charged.Amount)
		p := get(t, svc, order)
		require.Equal(t, paymentapi.PaymentState("charged"), p.State)
		require.Equal(t, charged.PaymentID, *p.PaymentID)
		require.Equal(t, charged.ProviderReference, *p.ProviderReference)
	}
	for token, code := range declines {
		order := "order-" + token
		_, declined := await[events.PaymentDeclined](t, s, order, 1)
		require.Equal(t, code, declined.Reason.Code)
		p := get(t, svc, order)
		require.Equal(t, paymentapi.PaymentState("declined"), p.State)
		require.Equal(t, code, p.Failure.Code)
	}
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 4 * 2500, Charges: 4, Declines: 3})
	require.Empty(t, s.Records(events.DeadLetterTopic(payment.Name)))
}

func TestChargeThatComesTwiceIsMadeOnce(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	command := s.Send(source, "order-1", charge("order-1", approved))
	_, first := await[events.PaymentCharged](t, s, "order-1", 1)

	// The same message is dropped; another one for the order gets the same answer.
	s.Resend(events.TopicPaymentCommands, command)
	again := s.Send(source, "order-1", charge("order-1", approved))
	e, second := await[events.PaymentCharged](t, s, "order-1", 2)
	require.Equal(t, again.ID, e.CausationID)
	require.Equal(t, first, second)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1})

	// One that wants another sum is a mistake that somebody must look at.
	other := charge("order-1", approved)
	other.Amount.Amount++
	s.Send(source, "order-1", other)
	l := letters(svc, 1)[0]
	require.Equal(t, "permanent", l.ErrorType)
	require.Contains(t, l.Error, "charged for 2500 EUR")
	require.Len(t, s.Messages(events.TopicPaymentCharged, events.TypePaymentCharged, "order-1"), 2)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1})
}

func TestRefund(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	s.Send(source, "order-1", charge("order-1", approved))
	s.Send(source, "order-1", refund("order-1"))
	_, first := await[events.PaymentRefunded](t, s, "order-1", 1)
	require.Equal(t, price, first.Amount)
	require.NotEmpty(t, first.ProviderReference)
	p := get(t, svc, "order-1")
	require.Equal(t, paymentapi.PaymentState("refunded"), p.State)
	require.Equal(t, int64(2500), p.Refunded.Amount)

	s.Send(source, "order-1", refund("order-1"))
	_, second := await[events.PaymentRefunded](t, s, "order-1", 2)
	require.Equal(t, first, second)
	s.Send(source, "order-1", charge("order-1", approved))
	_, declined := await[events.PaymentDeclined](t, s, "order-1", 1)
	require.Equal(t, "cancelled", declined.Reason.Code)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1, Refunded: 2500, Refunds: 1})
}

func TestRefundBeforeChargeLeavesATombstone(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	s.Send(source, "order-1", refund("order-1"))
	s.Send(source, "order-1", charge("order-1", approved))
	_, refunded := await[events.PaymentRefunded](t, s, "order-1", 1)
	require.Equal(t, events.Money{Currency: "EUR"}, refunded.Amount)
	_, declined := await[events.PaymentDeclined](t, s, "order-1", 1)
	require.Equal(t, "cancelled", declined.Reason.Code)
	require.Equal(t, paymentapi.PaymentState("voided"), get(t, svc, "order-1").State)

	// What was declined has nothing to give back, and stays declined.
	s.Send(source, "order-2", charge("order-2", sandbox.TokenDeclined))
	s.Send(source, "order-2", refund("order-2"))
	_, refunded = await[events.PaymentRefunded](t, s, "order-2", 1)
	require.Zero(t, refunded.Amount.Amount)
	require.Equal(t, paymentapi.PaymentState("declined"), get(t, svc, "order-2").State)
	balanced(t, svc, paymentapi.CurrencyTotals{Declines: 1})
}

func TestProviderThatNeverAnswers(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "PAYMENT_PROVIDER_TIMEOUT=500ms")
	command := s.Send(source, "order-1", charge("order-1", sandbox.TokenTimeout))
	l := letters(svc, 1)[0]
	require.Equal(t, command.ID, l.EventID)
	require.Equal(t, "transient", l.ErrorType)
	require.Equal(t, 2, l.Retries)
	require.Equal(t, 404, svc.Get("/v1/payments/order-1", nil))

	s.Send(source, "order-1", refund("order-1"))
	_, refunded := await[events.PaymentRefunded](t, s, "order-1", 1)
	require.Zero(t, refunded.Amount.Amount)

	redrive(t, svc, l.ID)
	e, declined := await[events.PaymentDeclined](t, s, "order-1", 1)
	require.Equal(t, command.ID, e.CausationID)
	require.Equal(t, "cancelled", declined.Reason.Code)
	require.Equal(t, paymentapi.PaymentState("voided"), get(t, svc, "order-1").State)
}

// A lost answer that nobody asks for again: the charge is known to the provider only, and the refund finds it there.
func TestRefundOfAChargeWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CONSUMER_MAX_ATTEMPTS=1")
	s.Send(source, "order-1", charge("order-1", sandbox.TokenAmbiguous))
	l := letters(svc, 1)[0]
	s.Send(source, "order-1", refund("order-1"))
	_, refunded := await[events.PaymentRefunded](t, s, "order-1", 1)
	require.Equal(t, price, refunded.Amount)
	redrive(t, svc, l.ID)
	await[events.PaymentDeclined](t, s, "order-1", 1)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1, Refunded: 2500, Refunds: 1})
}

// The provider has charged, and the service ends before its transaction could commit.
func TestStopBetweenChargeAndCommitChargesOnce(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CONSUMER_MAX_ATTEMPTS=100")
	inject(t, s, `CREATE TRIGGER injected BEFORE INSERT ON payments BEGIN SELECT RAISE(ABORT, 'injected'); END`)
	s.Send(source, "order-1", charge("order-1", approved))
	testkit.Eventually(svc, "/v1/payments/totals", func(totals paymentapi.PaymentTotals) bool {
		return totals.Provider != nil && len(*totals.Provider) == 1
	})
	svc.Stop()
	require.Empty(t, s.Records(events.TopicPaymentCharged))
	inject(t, s, `DROP TRIGGER injected`)

	svc = testkit.Run(s, payment.Name, payment.Run)
	await[events.PaymentCharged](t, s, "order-1", 1)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1})
	require.Empty(t, s.Records(events.DeadLetterTopic(payment.Name)))
}

// inject changes the service's database from outside.
func inject(t *testing.T, s *testkit.Stack, statement string) {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite:"+s.Database(payment.Name))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	}))
}

func TestTheDatabaseRefusesImpossiblePayments(t *testing.T) {
	t.Parallel()
	s, _ := start(t)
	db, err := database.Open(t.Context(), "sqlite:"+s.Database(payment.Name))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, values := range map[string]string{
		"more back than came in": `'refunded', 100, 'EUR', 101, 'ch', 're', '', ''`,
		"back while charged":     `'charged', 100, 'EUR', 1, 'ch', '', '', ''`,
		"voided with money":      `'voided', 100, 'EUR', 0, '', '', '', ''`,
		"no such state":          `'lost', 100, 'EUR', 0, '', '', '', ''`,
		"negative":               `'declined', -1, 'EUR', 0, '', '', 'code', ''`,
		"charged by nobody":      `'charged', 100, 'EUR', 0, '', '', '', ''`,
	} {
		err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO payments (order_id, customer_id, payment_id, state, amount, currency,
				refunded, reference, refund_reference, failure_code, failure_detail, created_at, updated_at)
				VALUES ('o', 'c', 'p', `+values+`, $1, $1)`, time.Now().UTC())
			return err
		})
		require.True(t, database.IsCheck(err), "%s: %v", name, err)
	}
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	good := func(id string) map[string]string {
		return map[string]string{
			"ce_id": id, "ce_source": source, "ce_specversion": "1.0", "ce_type": events.TypePaymentCharge,
			"ce_time": "2026-11-21T10:00:00Z", "ce_partitionkey": "order-1", "content-type": "application/json",
		}
	}
	with := func(headers map[string]string, name, value string) map[string]string {
		headers[name] = value
		return headers
	}
	body := encode(t, charge("order-1", approved))
	negative := encode(t, events.PaymentCharge{OrderID: "order-1", CustomerID: customer, Amount: events.Money{Amount: -1, Currency: "EUR"}, PaymentMethod: approved})
	records := []kafka.Record{
		{Key: []byte("order-1"), Value: []byte("\xff no JSON"), Headers: good("1")},
		{Key: []byte("order-1"), Value: []byte(`{"order_id":"order-1"}`), Headers: good("2")},
		{Key: []byte("order-1"), Value: negative, Headers: good("3")},
		{Key: []byte("order-1"), Value: body},
		{Key: []byte("order-1"), Value: body, Headers: with(good("5"), "ce_type", "payment.steal")},
		{Key: []byte("order-1"), Value: body, Headers: with(good("6"), "ce_specversion", "0.3")},
		{Key: []byte("order-1"), Value: nil, Headers: good("7")},
		{Value: []byte("without key or headers")},
	}
	for _, r := range records {
		r.Topic = events.TopicPaymentCommands
		s.SendRaw(r)
	}
	// They stop nothing: the same key's next good message goes through.
	s.Send(source, "order-1", charge("order-1", approved))
	await[events.PaymentCharged](t, s, "order-1", 1)
	byType := map[string]int{}
	for _, l := range letters(svc, len(records)) {
		byType[l.ErrorType]++
		require.Zero(t, l.Retries)
	}
	require.Equal(t, map[string]int{"undecodable": 7, "permanent": 1}, byType)
	balanced(t, svc, paymentapi.CurrencyTotals{Charged: 2500, Charges: 1})
}

func TestHTTPProvider(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/provider.db")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
	outside := sandbox.New(sandbox.Config{Timeout: time.Minute}, db, time.Now, uuid.NewString)
	server := providertest.Server(t, outside)

	s, svc := start(t, "PAYMENT_PROVIDER=http", "PAYMENT_PROVIDER_URL="+server.URL)
	s.Send(source, "order-1", charge("order-1", sandbox.TokenAmbiguous))
	await[events.PaymentCharged](t, s, "order-1", 1)
	s.Send(source, "order-1", refund("order-1"))
	_, refunded := await[events.PaymentRefunded](t, s, "order-1", 1)
	require.Equal(t, price, refunded.Amount)
	s.Send(source, "order-2", charge("order-2", sandbox.TokenDeclined))
	_, declined := await[events.PaymentDeclined](t, s, "order-2", 1)
	require.Equal(t, "card_declined", declined.Reason.Code)

	var totals paymentapi.PaymentTotals
	require.Equal(t, 200, svc.Get("/v1/payments/totals", &totals))
	require.Nil(t, totals.Provider)
	theirs, err := outside.Totals(t.Context())
	require.NoError(t, err)
	require.Len(t, theirs, 1)
	require.Equal(t, totals.Currencies[0].Charged, theirs[0].Charged)
	require.Equal(t, totals.Currencies[0].Refunded, theirs[0].Refunded)

	// With a provider that nobody can be connected to, the first order already waits.
	server.Close()
	s.Send(source, "order-3", charge("order-3", approved))
	testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
	require.Empty(t, s.Records(events.DeadLetterTopic(payment.Name)))
}

func TestREST(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	var totals paymentapi.PaymentTotals
	require.Equal(t, 200, svc.Get("/v1/payments/totals", &totals))
	require.Empty(t, totals.Currencies)
	require.Equal(t, 404, svc.Get("/v1/payments/nobody", nil))
	require.Equal(t, 400, svc.Get("/v1/payments/"+strings.Repeat("x", 65), nil))
	require.Equal(t, 404, svc.Get("/v1/nothing", nil))
	response, body := svc.Post("/v1/payments/totals", map[string]string{})
	require.Equal(t, 405, response.StatusCode, body)
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	require.Equal(t, 200, svc.Get("/livez", nil))
}

func TestConfigurationMistakesAreListedAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	code := service.Run(t.Context(), payment.Name, service.Process{
		Environ: []string{
			"PAYMENT_PROVIDER=bank", "PAYMENT_PROVIDER_TIMEOUT=1h", "PAYMENT_PROVIDER_ATTEMPTS=0", "PAYMENT_PROVIDER_BREAKER_FAILURES=0",
			"PAYMENT_PROVIDER_BREAKER_COOLDOWN=1h", "PAYMENT_SANDBOX_SLOW=-1s",
			"CONSUMER_MAX_ATTEMPTS=many", "REPLAY_GROUP=payment.replay",
		},
		Stdout: &out, Stderr: &out,
	}, payment.Run)
	require.Equal(t, 2, code)
	for _, want := range []string{
		"KAFKA_BROKERS is not set", "DATABASE_URL is not set", `PAYMENT_PROVIDER is "bank", must be sandbox or http`,
		"PAYMENT_PROVIDER_TIMEOUT is 1h0m0s, must be from 10ms to 1m", "PAYMENT_PROVIDER_ATTEMPTS is 0",
		"PAYMENT_PROVIDER_BREAKER_FAILURES is 0, must be from 1 to 1000", "PAYMENT_PROVIDER_BREAKER_COOLDOWN is 1h0m0s, must be from 10ms to 10m", "PAYMENT_SANDBOX_SLOW is -1s",
		`CONSUMER_MAX_ATTEMPTS is "many"`, "REPLAY_GROUP is set, must be empty unless PAYMENT_PROVIDER is sandbox",
	} {
		require.Contains(t, out.String(), want)
	}
}
