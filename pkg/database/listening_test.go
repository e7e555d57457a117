package database

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A read may be under way from before there was anything to wait for. What is asked then has the whole time for its
// answer.
func TestSilenceCountsFromTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &silence{limit: time.Minute}
		conn, err := s.over(func(context.Context, string, string) (net.Conn, error) { return ours, nil })(t.Context(), "", "")
		require.NoError(t, err)
		start := time.Now()
		ended := make(chan time.Duration, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			require.Error(t, err)
			ended <- time.Since(start)
		}()
		go func() { _, _ = theirs.Read(make([]byte, 10)) }()
		<-time.After(50 * time.Second)
		_, err = conn.Write([]byte("question"))
		require.NoError(t, err)
		require.Equal(t, 110*time.Second, <-ended)
		require.NoError(t, theirs.Close())
	})
}
