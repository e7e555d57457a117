package database

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// Silence sets how long PostgreSQL may say nothing when it was asked something.
func Silence(d time.Duration) Option { return func(o *options) { o.silence = d } }

// CutOne closes a connection to PostgreSQL beneath the pool, as silence does, and gives it back.
func (db *DB) CutOne(ctx context.Context) error {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	err = conn.Raw(func(raw any) error { return raw.(*stdlib.Conn).Conn().PgConn().Conn().Close() })
	return errors.Join(err, conn.Close())
}
