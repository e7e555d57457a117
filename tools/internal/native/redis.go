package native

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

func redisPath() (string, error) { return exec.LookPath("redis-server") }

// prepareRedis registers Redis with an append-only file, and no snapshots beside it.
func (s *Servers) prepareRedis(port int) error {
	path, err := redisPath()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.opts.Dir, "redis")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	address := loopback.Address(port)
	s.redis = "redis://" + address + "/0"
	s.add(process.Config{
		Name: "redis", Path: path, Env: os.Environ(),
		Args: []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--save", ""},
	}, func(ctx context.Context) error { return pings(ctx, address) })
	return nil
}

// pings asks for a sign of life; while Redis reads its file it answers with an error.
func pings(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only asked
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != "+PONG" {
		return fmt.Errorf("redis answers %q", line)
	}
	return nil
}
