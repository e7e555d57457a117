-- +goose Up
-- A state is 1 to 4 KiB, and is read and written at each step. Above 2 KB PostgreSQL would compress it and keep what is left in
-- another table, which costs more than all else that a step does there.
{{postgres}} ALTER TABLE sagas SET (toast_tuple_target = 8160);

-- +goose Down
{{postgres}} ALTER TABLE sagas RESET (toast_tuple_target);
