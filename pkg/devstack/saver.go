package devstack

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

const (
	saveInterval = time.Second
	saveTimeout  = 10 * time.Second
)

// saver keeps a file equal to what is in a miniredis.
type saver struct {
	client *redis.Client
	path   string
	logger *slog.Logger
	last   []byte

	stopping chan struct{}
	stopped  chan struct{}
}

// newSaver restores path into server and saves from then on.
func newSaver(ctx context.Context, server *miniredis.Miniredis, path string, logger *slog.Logger) (*saver, error) {
	s := &saver{
		client: redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 1, Protocol: 2, DisableIdentity: true}),
		path:   path, logger: logger, stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := s.load(ctx); err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	go s.run()
	return s, nil
}

func (s *saver) run() {
	defer close(s.stopped)
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	failed := ""
	for {
		select {
		case <-ticker.C:
			err := s.save()
			if text := fmt.Sprint(err); err != nil && text != failed {
				s.logger.Warn("the content of Redis was not saved", "file", s.path, "error", err)
				failed = text
			}
		case <-s.stopping:
			return
		}
	}
}

// stop saves a last time.
func (s *saver) stop() error {
	close(s.stopping)
	<-s.stopped
	return errors.Join(s.save(), s.client.Close())
}

func (s *saver) load(ctx context.Context) error {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var content snapshot
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&content); err != nil {
		return fmt.Errorf("read %s (remove it to start empty): %w", s.path, err)
	}
	if content.Version != snapshotVersion {
		return fmt.Errorf("read %s (remove it to start empty): version %d, want %d", s.path, content.Version, snapshotVersion)
	}
	if err := content.restore(ctx, s.client, time.Now()); err != nil {
		return fmt.Errorf("restore %s (remove it to start empty): %w", s.path, err)
	}
	return nil
}

// save writes the file anew if anything changed, and never leaves half a one.
func (s *saver) save() error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	content, err := take(ctx, s.client)
	if err != nil {
		return err
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(content); err != nil {
		return err
	}
	if bytes.Equal(data.Bytes(), s.last) {
		return nil
	}
	if err := replace(s.path, data.Bytes()); err != nil {
		return err
	}
	s.last = data.Bytes()
	return nil
}

func replace(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
