package database

import "time"

// Silence sets how long PostgreSQL may say nothing when it was asked something.
func Silence(d time.Duration) Option { return func(o *options) { o.silence = d } }
