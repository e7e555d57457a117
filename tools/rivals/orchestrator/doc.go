// Package orchestrator is the plain alternative to Orderflow: an orchestrator that calls three services over HTTP, one after
// the other, and answers with the end of the order. It is what a benchmark sets against the saga.
//
// Four processes of one program, each in one role: the orchestrator, and inventory, payment and shipping with a database
// each. An order costs three requests (a fourth for a declined payment, which gives the stock back) and a transaction for
// each of them, with the statements that our services have for one message: read and lock, change, commit.
//
// What is in its favour: nothing survives a crash of the orchestrator in the middle of an order. There is no order table, no
// inbox, no outbox, no idempotency, no retry, no validation of bodies, no provider's books, no notification, no analytics,
// no trace and no log; stock stays reserved when a parcel is on its way. It has the same products, prices and customers.
//
// How it is set: net/http and chi, database/sql on pgx, which prepares each statement once a connection; 24 connections a
// service, all of them kept (RIVAL_POOL changes that); as many idle HTTP connections as there are orders under way;
// GOMAXPROCS and PostgreSQL (with fsync) as for everybody.
package orchestrator
