package outbox

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
)

// However they look, headers are what encoding/json makes of them, and what it reads.
func TestHeadersAreJSON(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	letters := []string{"a", "B", "7", "-", "_", ":", ",", "{", "}", " ", `"`, `\\`, "/", "<", "&", "\n", "\x00", "\x7f", "é", "😀", "\u2028", "\xff"}
	text := func(most int) (text string) {
		few := 10
		if random.IntN(4) == 0 {
			few = len(letters)
		}
		for range random.IntN(most) {
			text += letters[random.IntN(few)]
		}
		return text
	}
	quick := 0
	for range 5000 {
		e := event.Event{ID: text(9), Type: text(9), Key: text(9), Subject: text(9), Time: time.Unix(random.Int64N(1e9), 0).UTC(), Extra: map[string]string{}}
		for range random.IntN(4) {
			e.Extra[text(6)] = text(9)
		}
		standard, err := json.Marshal(e.Headers())
		require.NoError(t, err)
		var want map[string]string
		require.NoError(t, json.Unmarshal(standard, &want))

		encoded, err := encodeHeaders(e)
		require.NoError(t, err)
		require.True(t, json.Valid([]byte(encoded)), "seed %d: %s", seed, encoded)
		for _, column := range []string{encoded, string(standard)} {
			got, err := decodeHeaders(column)
			require.NoError(t, err)
			require.Equal(t, want, got, "seed %d: %s", seed, column)
		}
		// Broken somewhere, it is refused or read as encoding/json does.
		at := random.IntN(len(encoded))
		broken := encoded[:at] + text(3) + encoded[min(len(encoded), at+random.IntN(3)):]
		var wanted map[string]string
		wantErr := json.Unmarshal([]byte(broken), &wanted)
		got, err := decodeHeaders(broken)
		require.Equal(t, wantErr == nil, err == nil, "seed %d: %q", seed, broken)
		if err == nil {
			require.Equal(t, wanted, got, "seed %d: %q", seed, broken)
		}
		if _, ok := plainHeaders(encoded); ok {
			quick++
		}
	}
	require.Greater(t, quick, 1000, "most are plain")
	for _, column := range []string{"", "{", "{}", "null", "[]", `{"a":1}`, `{"a":"b"`, `{"a":"b",}`, `{"a":"b"} `, `{"a":"b","a":"c"}`} {
		var want map[string]string
		wantErr := json.Unmarshal([]byte(column), &want)
		got, err := decodeHeaders(column)
		require.Equal(t, wantErr == nil, err == nil, column)
		if err == nil {
			require.Equal(t, want, got, column)
		}
	}
}
