// Package app is the wiring that event-driven services have in common: database and migrations, outbox and relay,
// publisher, consumer and subscriber, dead letters, the metrics of its own consumer groups' lag, upkeep, readiness and the
// API's router.
//
// A service's Run is then
//
//	a, err := app.New(ctx, rt, cfg.Base, cfg.App, app.Options{…})
//	consumer.On(a.Consumer, handler)
//	httpapi.Mount(a.Router, spec, httpapi.MountOptions{}, routes)
//	return a.Start(ctx)
//
// Whoever needs something else uses the packages themselves: there is nothing here but their constructors in order.
package app
