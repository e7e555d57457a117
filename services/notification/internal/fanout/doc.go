// Package fanout turns an order's transitions into notifications and sends each on its ways.
//
//	order.created … ──▶ handler: notification, deliveries, outbox rows in one transaction
//	                                      │ relay
//	                                      ├─ topic notification.feed ─────────▶ the customer's Redis stream
//	                                      ├─ topic notifications.channel.* ───▶ the channel's queue in Redis
//	                                      └─ any other ───────────────────────▶ Kafka
//
// The outbox carries all of them, so a notification that is committed reaches its streams once Redis is there, in the
// order of the customer's numbers. The internal topics exist in the outbox alone; Kafka never sees them.
package fanout
