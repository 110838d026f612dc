-- Does the gap between chosen and rejected shrink? By iteration, with its change since the one before (`prev` in params.yaml); a gap that closes leaves DPO nothing to learn.
-- by: model
WITH gaps AS (SELECT model, avg(chosen_score - rejected_score) AS before FROM pairs GROUP BY model)
SELECT
    pairs.model,
    count(*) AS pairs,
    avg(chosen_score) AS chosen,
    avg(rejected_score) AS rejected,
    avg(chosen_score - rejected_score) AS gap,
    quantile_cont(chosen_score - rejected_score, 0.1) AS p10,
    quantile_cont(chosen_score - rejected_score, 0.9) AS p90,
    gap - any_value(before) AS change,
FROM pairs LEFT JOIN models USING (model) LEFT JOIN gaps ON gaps.model = prev
GROUP BY pairs.model
ORDER BY length(pairs.model), pairs.model
