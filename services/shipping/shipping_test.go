package shipping_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/shipping"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/carriertest"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

func TestArrange(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	cities := []string{"Berlin", sandbox.CitySlow, sandbox.CityFlaky, sandbox.CityLost}
	for _, city := range cities {
		s.Send(source, "order-"+city, arrange("order-"+city, city))
	}
	countries := []string{sandbox.CountryAntarctica, sandbox.CountryNorthKorea}
	for _, country := range countries {
		command := arrange("order-"+country, "Base")
		command.Address.Country = country
		s.Send(source, "order-"+country, command)
	}
	numbers := map[string]bool{}
	for _, city := range cities {
		order := "order-" + city
		e, arranged := await[events.ShippingArranged](t, s, order, 1)
		require.Equal(t, order, e.CorrelationID)
		require.NotEmpty(t, e.CausationID)
		numbers[arranged.TrackingNumber] = true
		shipment := get(t, svc, order)
		require.Equal(t, shippingapi.ShipmentState("arranged"), shipment.State)
		require.Equal(t, arranged.ShipmentID, *shipment.ShipmentID)
		require.Equal(t, arranged.TrackingNumber, *shipment.TrackingNumber)
		require.Equal(t, arranged.Carrier, *shipment.Carrier)
	}
	require.Len(t, numbers, len(cities))
	for _, country := range countries {
		order := "order-" + country
		_, failed := await[events.ShippingFailed](t, s, order, 1)
		require.Equal(t, "region_not_served", failed.Reason.Code)
		shipment := get(t, svc, order)
		require.Equal(t, shippingapi.ShipmentState("refused"), shipment.State)
		require.Equal(t, "region_not_served", shipment.Failure.Code)
	}
	balanced(t, s, svc, shippingapi.ShipmentTotals{Arranged: 4, Refused: 2})
	require.Empty(t, s.Records(events.DeadLetterTopic(shipping.Name)))
}

func TestArrangeThatComesTwiceIsDoneOnce(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	command := s.Send(source, "order-1", arrange("order-1", "Berlin"))
	_, first := await[events.ShippingArranged](t, s, "order-1", 1)

	// The same message is dropped; another one for the order gets the same answer.
	s.Resend(events.TopicShippingCommands, command)
	again := s.Send(source, "order-1", arrange("order-1", "Berlin"))
	e, second := await[events.ShippingArranged](t, s, "order-1", 2)
	require.Equal(t, again.ID, e.CausationID)
	require.Equal(t, first, second)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Arranged: 1})
	require.Len(t, s.Messages(events.TopicShippingArranged, events.TypeShippingArranged, "order-1"), 2)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	s.Send(source, "order-1", arrange("order-1", "Berlin"))
	s.Send(source, "order-1", cancel("order-1"))
	_, arranged := await[events.ShippingArranged](t, s, "order-1", 1)
	_, first := await[events.ShippingCancelled](t, s, "order-1", 1)
	require.Equal(t, arranged.ShipmentID, first.ShipmentID)
	shipment := get(t, svc, "order-1")
	require.Equal(t, shippingapi.ShipmentState("cancelled"), shipment.State)
	require.Equal(t, arranged.TrackingNumber, *shipment.TrackingNumber)

	s.Send(source, "order-1", cancel("order-1"))
	_, second := await[events.ShippingCancelled](t, s, "order-1", 2)
	require.Equal(t, first, second)
	s.Send(source, "order-1", arrange("order-1", "Berlin"))
	_, failed := await[events.ShippingFailed](t, s, "order-1", 1)
	require.Equal(t, "cancelled", failed.Reason.Code)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Cancelled: 1})
}

func TestCancelBeforeArrangeLeavesATombstone(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	s.Send(source, "order-1", cancel("order-1"))
	s.Send(source, "order-1", arrange("order-1", "Berlin"))
	_, cancelled := await[events.ShippingCancelled](t, s, "order-1", 1)
	require.Empty(t, cancelled.ShipmentID)
	_, failed := await[events.ShippingFailed](t, s, "order-1", 1)
	require.Equal(t, "cancelled", failed.Reason.Code)
	require.Equal(t, shippingapi.ShipmentState("voided"), get(t, svc, "order-1").State)

	// What was refused has nothing to call back, and stays refused.
	refused := arrange("order-2", "Base")
	refused.Address.Country = sandbox.CountryAntarctica
	s.Send(source, "order-2", refused)
	s.Send(source, "order-2", cancel("order-2"))
	_, cancelled = await[events.ShippingCancelled](t, s, "order-2", 1)
	require.Empty(t, cancelled.ShipmentID)
	require.Equal(t, shippingapi.ShipmentState("refused"), get(t, svc, "order-2").State)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Refused: 1, Voided: 1})
}

func TestCarrierThatAlwaysFails(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	command := s.Send(source, "order-1", arrange("order-1", sandbox.CityFailing))
	l := letters(svc, 1)[0]
	require.Equal(t, command.ID, l.EventID)
	require.Equal(t, "transient", l.ErrorType)
	require.Equal(t, 2, l.Retries)
	require.Equal(t, 404, svc.Get("/v1/shipments/order-1", nil))

	s.Send(source, "order-1", cancel("order-1"))
	_, cancelled := await[events.ShippingCancelled](t, s, "order-1", 1)
	require.Empty(t, cancelled.ShipmentID)

	redrive(t, svc, l.ID)
	e, failed := await[events.ShippingFailed](t, s, "order-1", 1)
	require.Equal(t, command.ID, e.CausationID)
	require.Equal(t, "cancelled", failed.Reason.Code)
	require.Equal(t, shippingapi.ShipmentState("voided"), get(t, svc, "order-1").State)
}

func TestCarrierThatIsTooSlow(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CARRIER_SANDBOX_SLOW=1m", "CARRIER_TIMEOUT=300ms")
	s.Send(source, "order-1", arrange("order-1", sandbox.CitySlow))
	require.Equal(t, "transient", letters(svc, 1)[0].ErrorType)
	require.Equal(t, sandbox.Counts{}, books(t, s))
}

// A lost answer that nobody asks for again: the parcel is known to the carrier only, and the cancellation finds it there.
func TestCancelOfAParcelWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CONSUMER_MAX_ATTEMPTS=1")
	s.Send(source, "order-1", arrange("order-1", sandbox.CityLost))
	l := letters(svc, 1)[0]
	s.Send(source, "order-1", cancel("order-1"))
	_, cancelled := await[events.ShippingCancelled](t, s, "order-1", 1)
	require.NotEmpty(t, cancelled.ShipmentID)
	redrive(t, svc, l.ID)
	await[events.ShippingFailed](t, s, "order-1", 1)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Cancelled: 1})
}

// The carrier has arranged, and the service ends before its transaction could commit.
func TestStopBetweenArrangementAndCommitArrangesOnce(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CONSUMER_MAX_ATTEMPTS=100")
	inject(t, s, `CREATE TRIGGER injected BEFORE INSERT ON shipments BEGIN SELECT RAISE(ABORT, 'injected'); END`)
	s.Send(source, "order-1", arrange("order-1", "Berlin"))
	require.Eventually(t, func() bool { return books(t, s).Arranged == 1 }, testkit.Patience, 20*time.Millisecond)
	svc.Stop()
	require.Empty(t, s.Records(events.TopicShippingArranged))
	inject(t, s, `DROP TRIGGER injected`)

	svc = testkit.Run(s, shipping.Name, shipping.Run)
	await[events.ShippingArranged](t, s, "order-1", 1)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Arranged: 1})
	require.Empty(t, s.Records(events.DeadLetterTopic(shipping.Name)))
}

// inject changes the service's database from outside.
func inject(t *testing.T, s *testkit.Stack, statement string) {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite:"+s.Database(shipping.Name))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	}))
}

func TestTheDatabaseRefusesImpossibleShipments(t *testing.T) {
	t.Parallel()
	s, _ := start(t)
	db, err := database.Open(t.Context(), "sqlite:"+s.Database(shipping.Name))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	insert := func(order, values string) error {
		return db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO shipments (order_id, customer_id, shipment_id, state, carrier,
				tracking_number, failure_code, failure_detail, created_at, updated_at)
				VALUES ($1, 'c', $1, `+values+`, $2, $2)`, order, time.Now().UTC())
			return err
		})
	}
	for name, values := range map[string]string{
		"arranged without a number": `'arranged', 'sandbox', '', '', ''`,
		"voided with a number":      `'voided', 'sandbox', 'SBX1', '', ''`,
		"refused for no reason":     `'refused', '', '', '', ''`,
		"no such state":             `'lost', '', '', '', ''`,
	} {
		err := insert("o", values)
		require.True(t, database.IsCheck(err), "%s: %v", name, err)
	}
	require.NoError(t, insert("a", `'arranged', 'sandbox', 'SBX1', '', ''`))
	require.True(t, database.IsUnique(insert("b", `'arranged', 'sandbox', 'SBX1', '', ''`)))
	require.NoError(t, insert("c", `'arranged', 'other', 'SBX1', '', ''`))
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	good := func(id string) map[string]string {
		return map[string]string{
			"ce_id": id, "ce_source": source, "ce_specversion": "1.0", "ce_type": events.TypeShippingArrange,
			"ce_time": "2026-11-21T10:00:00Z", "ce_partitionkey": "order-1", "content-type": "application/json",
		}
	}
	with := func(headers map[string]string, name, value string) map[string]string {
		headers[name] = value
		return headers
	}
	body := encode(t, arrange("order-1", "Berlin"))
	nowhere := encode(t, events.ShippingArrange{OrderID: "order-1", CustomerID: customer})
	records := []kafka.Record{
		{Key: []byte("order-1"), Value: []byte("\xff no JSON"), Headers: good("1")},
		{Key: []byte("order-1"), Value: []byte(`{"order_id":"order-1"}`), Headers: good("2")},
		{Key: []byte("order-1"), Value: nowhere, Headers: good("3")},
		{Key: []byte("order-1"), Value: body},
		{Key: []byte("order-1"), Value: body, Headers: with(good("5"), "ce_type", "shipping.steal")},
		{Key: []byte("order-1"), Value: body, Headers: with(good("6"), "ce_specversion", "0.3")},
		{Key: []byte("order-1"), Value: nil, Headers: good("7")},
		{Value: []byte("without key or headers")},
	}
	for _, r := range records {
		r.Topic = events.TopicShippingCommands
		s.SendRaw(r)
	}
	// They stop nothing: the same key's next good message goes through.
	s.Send(source, "order-1", arrange("order-1", "Berlin"))
	await[events.ShippingArranged](t, s, "order-1", 1)
	byType := map[string]int{}
	for _, l := range letters(svc, len(records)) {
		byType[l.ErrorType]++
		require.Zero(t, l.Retries)
	}
	require.Equal(t, map[string]int{"undecodable": 7, "permanent": 1}, byType)
	balanced(t, s, svc, shippingapi.ShipmentTotals{Arranged: 1})
}

func TestHTTPCarrier(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/carrier.db")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
	outside := sandbox.New(sandbox.Config{Timeout: time.Minute}, db, time.Now)
	server := carriertest.Server(t, outside)

	s, svc := start(t, "CARRIER=http", "CARRIER_URL="+server.URL)
	s.Send(source, "order-1", arrange("order-1", sandbox.CityLost))
	await[events.ShippingArranged](t, s, "order-1", 1)
	s.Send(source, "order-1", cancel("order-1"))
	await[events.ShippingCancelled](t, s, "order-1", 1)
	refused := arrange("order-2", "Base")
	refused.Address.Country = sandbox.CountryAntarctica
	s.Send(source, "order-2", refused)
	_, failed := await[events.ShippingFailed](t, s, "order-2", 1)
	require.Equal(t, "region_not_served", failed.Reason.Code)
	counts, err := outside.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, sandbox.Counts{Cancelled: 1}, counts)

	// With a carrier that nobody can be connected to, the first order already waits.
	server.Close()
	s.Send(source, "order-3", arrange("order-3", "Berlin"))
	testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
	require.Empty(t, s.Records(events.DeadLetterTopic(shipping.Name)))
}

func TestREST(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	var totals shippingapi.ShipmentTotals
	require.Equal(t, 200, svc.Get("/v1/shipments/totals", &totals))
	require.Zero(t, totals)
	require.Equal(t, 404, svc.Get("/v1/shipments/nobody", nil))
	require.Equal(t, 400, svc.Get("/v1/shipments/"+strings.Repeat("x", 65), nil))
	require.Equal(t, 404, svc.Get("/v1/nothing", nil))
	response, body := svc.Post("/v1/shipments/totals", map[string]string{})
	require.Equal(t, 405, response.StatusCode, body)
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	require.Equal(t, 200, svc.Get("/livez", nil))
}

func TestConfigurationMistakesAreListedAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	code := service.Run(t.Context(), shipping.Name, service.Process{
		Environ: []string{
			"CARRIER=bank", "CARRIER_TIMEOUT=1h", "CARRIER_ATTEMPTS=0", "CARRIER_BREAKER_FAILURES=0",
			"CARRIER_BREAKER_COOLDOWN=1h", "CARRIER_SANDBOX_SLOW=-1s", "CONSUMER_MAX_ATTEMPTS=many",
			"REPLAY_GROUP=shipping.replay",
		},
		Stdout: &out, Stderr: &out,
	}, shipping.Run)
	require.Equal(t, 2, code)
	for _, want := range []string{
		"KAFKA_BROKERS is not set", "DATABASE_URL is not set", `CARRIER is "bank", must be sandbox or http`,
		"CARRIER_TIMEOUT is 1h0m0s, must be from 10ms to 1m", "CARRIER_ATTEMPTS is 0",
		"CARRIER_BREAKER_FAILURES is 0, must be from 1 to 1000", "CARRIER_BREAKER_COOLDOWN is 1h0m0s, must be from 10ms to 10m", "CARRIER_SANDBOX_SLOW is -1s",
		`CONSUMER_MAX_ATTEMPTS is "many"`, "REPLAY_GROUP is set, must be empty unless CARRIER is sandbox",
	} {
		require.Contains(t, out.String(), want)
	}
}
