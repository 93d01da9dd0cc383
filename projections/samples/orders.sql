/* millrace projection
version: 1
topics:  [shop.orders]
types:   [OrderPlaced, OrderPaid, OrderCancelled]
start:   earliest
key:     order_id
columns:
  order_id:     {type: text, path: $.order.id, required: true}
  customer_id:  {type: text, path: $.customer.id}
  amount_cents: {type: bigint, path: $.amount_cents}
  placed_at:    {type: timestamptz, path: $.placed_at}
*/
-- table
CREATE TABLE orders (
    order_id     text PRIMARY KEY,
    customer_id  text,
    amount_cents bigint,
    status       text NOT NULL,
    placed_at    timestamptz,
    events       bigint NOT NULL
);
-- index
CREATE INDEX orders_by_customer ON orders (customer_id, placed_at);
-- apply
-- batch_merged: Placed and Paid of one order may come in one batch, and Paid has no customer.
INSERT INTO orders AS t
SELECT order_id, customer_id, amount_cents, lower(substr(_type, 6)), placed_at, _count
FROM batch_merged ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE SET
    customer_id  = coalesce(excluded.customer_id, t.customer_id),
    amount_cents = coalesce(excluded.amount_cents, t.amount_cents),
    placed_at    = coalesce(excluded.placed_at, t.placed_at),
    status       = excluded.status,
    events       = t.events + excluded.events;
