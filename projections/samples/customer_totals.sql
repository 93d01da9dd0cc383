/* millrace projection
# The shop's contract: OrderPlaced and OrderCancelled both carry the customer and the amount.
version: 1
topics:  [shop.orders]
types:   [OrderPlaced, OrderCancelled]
columns:
  customer_id:  {type: text, path: $.customer.id, required: true}
  amount_cents: {type: bigint, path: $.amount_cents, required: true}
*/
-- table
CREATE TABLE customer_totals (
    customer_id text PRIMARY KEY,
    orders      bigint NOT NULL,
    spent_cents bigint NOT NULL
);
-- apply
-- One customer's orders come from several partitions, so two batches may write one row at a time:
-- sums commute, and the ORDER BY keeps the batches from deadlocking.
INSERT INTO customer_totals AS t
SELECT customer_id, sum(CASE _type WHEN 'OrderPlaced' THEN 1 ELSE -1 END),
       sum(CASE _type WHEN 'OrderPlaced' THEN amount_cents ELSE -amount_cents END)
FROM batch GROUP BY customer_id ORDER BY customer_id
ON CONFLICT (customer_id) DO UPDATE SET
    orders      = t.orders + excluded.orders,
    spent_cents = t.spent_cents + excluded.spent_cents;
