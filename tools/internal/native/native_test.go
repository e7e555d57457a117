//go:build native

// These tests need what the native stack needs: `make test STACK=native` runs them.

package native_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/internal/native"
)

// The test binary is also a program whose servers it is killed with.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SUPERVISE"); dir != "" {
		s, err := native.Start(context.Background(), options(dir))
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(s.Brokers()[0], s.DatabaseURL("shop"))
		select {}
	}
	os.Exit(m.Run())
}

func options(dir string) native.Options {
	return native.Options{
		Dir: filepath.Join(dir, "servers"), LogDir: dir, Libs: os.Getenv("KAFKA_LIBS"), Brokers: 1, Databases: []string{"shop", "other"},
		ReadyTimeout: time.Minute, StopTimeout: 20 * time.Second,
	}
}

func topics(t *testing.T, broker string) []string {
	t.Helper()
	client, err := sarama.NewClient([]string{broker}, sarama.NewConfig())
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	names, err := client.Topics()
	require.NoError(t, err)
	return names
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestDataOutliveACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SUPERVISE="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	broker, url, ok := strings.Cut(strings.TrimSpace(line), " ")
	require.True(t, ok, line)

	admin, err := sarama.NewClusterAdmin([]string{broker}, sarama.NewConfig())
	require.NoError(t, err)
	require.NoError(t, admin.CreateTopic("kept", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	require.NoError(t, admin.Close())
	_, err = connect(t, url).Exec(t.Context(), "CREATE TABLE kept (n int)")
	require.NoError(t, err)
	_, err = pgx.Connect(t.Context(), strings.Replace(url, "/shop", "/other", 1))
	require.ErrorContains(t, err, "permission denied", "a login reaches its own database alone")

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	// Its servers go with it, and then the ports and the folder are free.
	require.Eventually(t, func() bool {
		_, err := pgx.Connect(t.Context(), url)
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)

	var s *native.Servers
	require.Eventually(t, func() bool { // a server that was killed takes a moment to let go of its files
		s, err = native.Start(t.Context(), options(dir))
		return err == nil
	}, 30*time.Second, 200*time.Millisecond, "%v", err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.Contains(t, topics(t, s.Brokers()[0]), "kept")
	_, err = connect(t, s.DatabaseURL("shop")).Exec(t.Context(), "INSERT INTO kept VALUES (1)")
	require.NoError(t, err)

	_, err = native.Start(t.Context(), func() native.Options { o := options(dir); o.Brokers = 3; return o }())
	require.ErrorContains(t, err, "holds a Kafka of 1 brokers, not 3")
}

func TestServersAreKilledAndComeBack(t *testing.T) {
	t.Parallel()
	s, err := native.Start(t.Context(), options(t.TempDir()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.Equal(t, []string{"kafka-1", "postgres", "redis"}, s.Names())
	for _, name := range s.Names() {
		require.NoError(t, s.Kill(name))
		require.NoError(t, s.Kill(name), "down stays down")
		require.NoError(t, s.Restart(t.Context(), name))
	}
	topics(t, s.Brokers()[0])
	connect(t, s.DatabaseURL("other"))
	require.ErrorContains(t, s.Kill("kafka-2"), `no server "kafka-2", must be one of kafka-1, postgres, redis`)
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "again")
	err = s.Restart(t.Context(), "redis")
	require.Error(t, err, "after Stop nothing starts")
	require.False(t, errors.Is(err, context.DeadlineExceeded))
}
