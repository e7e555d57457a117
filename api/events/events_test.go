package events_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
)

type sample struct {
	Name string          `json:"name"`
	Path string          `json:"path"`
	Says string          `json:"says"`
	Data json.RawMessage `json:"data"`
}

func samples(t testing.TB, validity, typ string) []sample {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", validity, typ+".json"))
	require.NoError(t, err)
	var all []sample
	require.NoError(t, json.Unmarshal(data, &all))
	require.NotEmpty(t, all)
	return all
}

func TestGoodSamplesPassAndSurviveTheGoTypes(t *testing.T) {
	t.Parallel()
	for _, m := range events.All() {
		for _, s := range samples(t, "valid", m.Type) {
			t.Run(m.Type+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				require.NoError(t, events.Validate(m.Type, s.Data))
				body := m.New()
				require.NoError(t, json.Unmarshal(s.Data, body))
				back, err := json.Marshal(body)
				require.NoError(t, err)
				require.NoError(t, events.Validate(m.Type, back))
				var want map[string]json.RawMessage
				require.NoError(t, json.Unmarshal(s.Data, &want))
				delete(want, "later")
				known, err := json.Marshal(want)
				require.NoError(t, err)
				require.JSONEq(t, string(known), string(back), "the Go type lost or made up a field")
			})
		}
	}
}

func TestBadSamplesAreRefusedByPath(t *testing.T) {
	t.Parallel()
	for _, m := range events.All() {
		for _, s := range samples(t, "invalid", m.Type) {
			t.Run(m.Type+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				err := events.Validate(m.Type, s.Data)
				var invalid *events.InvalidError
				require.ErrorAs(t, err, &invalid)
				require.Equal(t, m.Type, invalid.Type)
				i := slices.IndexFunc(invalid.Violations, func(v events.Violation) bool { return v.Path == s.Path })
				require.GreaterOrEqual(t, i, 0, "no violation at %s: %v", s.Path, err)
				require.Contains(t, invalid.Violations[i].Allowed, s.Says)
				require.Contains(t, err.Error(), s.Path+" "+invalid.Violations[i].Allowed)
			})
		}
	}
}

func TestWhatIsNotOneJSONValueIsRefused(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "{", "\x00\xff", `{"order_id":"a"} {}`, "tok_secret"} {
		err := events.Validate(events.TypeOrderCreated, []byte(data))
		require.EqualError(t, err, "order.created breaks its schema: / must be one JSON value")
	}
}

func TestAnErrorRepeatsNoValueAndIsBounded(t *testing.T) {
	t.Parallel()
	err := events.Validate(events.TypePaymentCharge, []byte(`{"order_id":"o-1","customer_id":"c","payment_method":"4111 1111","amount":{"amount":1,"currency":"EUR"}}`))
	require.ErrorContains(t, err, "/payment_method must match")
	require.NotContains(t, err.Error(), "4111")

	line := `{"sku":"` + strings.Repeat("x", 1000) + `","quantity":0},`
	err = events.Validate(events.TypeInventoryReserve, []byte(`{"order_id":"o-1","lines":[`+strings.TrimSuffix(strings.Repeat(line, 50), ",")+`]}`))
	var invalid *events.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Violations, 10)
	require.Less(t, len(err.Error()), 1000)
}

func TestNumbersThatAreDearToCompareAreRefusedUnseen(t *testing.T) {
	t.Parallel()
	for _, number := range []string{"1e999999", "1E+999999", "1e-9999", strings.Repeat("9", 41)} {
		many := strings.TrimSuffix(strings.Repeat(number+",", 20_000), ",")
		err := events.Validate(events.TypeInventoryReserve, []byte(`{"order_id":"o-1","lines":[{"sku":"A","quantity":1,"later":[`+many+`]}]}`))
		require.ErrorContains(t, err, "must have no number of more than 40 characters")
	}
	require.NoError(t, events.Validate(events.TypeInventoryReserve, []byte(`{"order_id":"o-1","lines":[{"sku":"A","quantity":1,"later":[0.5,-1e30]}]}`)))
}

func TestUnknownTypeIsItsOwnError(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"", "common", "order.created ", "no.such", strings.Repeat("x", 10_000)} {
		err := events.Validate(typ, []byte(`{}`))
		require.ErrorIs(t, err, events.ErrUnknownType)
		require.Less(t, len(err.Error()), 200)
	}
	_, ok := events.Find("no.such")
	require.False(t, ok)
}

func TestTheZeroListIsAnEmptyArray(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(events.InventoryReleased{OrderID: "o-1"})
	require.NoError(t, err)
	require.JSONEq(t, `{"order_id":"o-1","lines":[]}`, string(data))
	require.NoError(t, events.Validate(events.TypeInventoryReleased, data))
}

func TestNewReasonFitsTheSchema(t *testing.T) {
	t.Parallel()
	for _, detail := range []string{"", "short", strings.Repeat("ü", events.MaxDetail), strings.Repeat("ü", events.MaxDetail+1), strings.Repeat("\xff", 600), "two\nlines\x00\x1b[31m"} {
		reason := events.NewReason(events.ReasonOutOfStock, detail)
		require.LessOrEqual(t, utf8.RuneCountInString(reason.Detail), events.MaxDetail)
		data, err := json.Marshal(events.InventoryRelease{OrderID: "o-1", Reason: reason})
		require.NoError(t, err)
		require.NoError(t, events.Validate(events.TypeInventoryRelease, data))
	}
}

func TestRegistryNamesAndFinds(t *testing.T) {
	t.Parallel()
	for _, m := range events.All() {
		found, ok := events.Find(m.Type)
		require.True(t, ok)
		require.Equal(t, m.Topic, found.Topic)
		body := m.New()
		require.Equal(t, m.Type, body.EventType())
		require.Equal(t, m.Topic, body.EventTopic())
		service, what, ok := strings.Cut(m.Type, ".")
		require.True(t, ok)
		require.Equal(t, strings.ToUpper(service[:1])+service[1:]+strings.ToUpper(what[:1])+what[1:], reflect.TypeOf(body).Elem().Name())
		if m.Command() {
			require.Equal(t, service+".commands", m.Topic)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("order.created", []byte(`{"order_id":"o-1","lines":[{"quantity":1e400}]}`))
	f.Add("payment.charge", []byte("{\"amount\":{\"amount\":1.0,\"currency\":\"\\u0000\"}}"))
	f.Add("", []byte{0xff})
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		err := events.Validate(typ, data)
		var invalid *events.InvalidError
		switch {
		case err == nil:
			require.True(t, json.Valid(data))
		case errors.As(err, &invalid):
			require.NotEmpty(t, invalid.Violations)
		default:
			require.ErrorIs(t, err, events.ErrUnknownType)
		}
	})
}

func TestReceived(t *testing.T) {
	t.Parallel()
	var names []string
	for _, topic := range events.Received("inventory") {
		names = append(names, topic.Name)
	}
	require.Equal(t, []string{"order.confirmed", "inventory.commands", "inventory.dlq", "inventory.redrive"}, names)
	require.Empty(t, events.Received("nobody"))
}
