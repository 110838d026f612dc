-- Does the gap between chosen and rejected shrink? By iteration, with its change; a gap that closes leaves DPO nothing to learn.
-- by: model
SELECT
    model,
    count(*) AS pairs,
    avg(chosen_score) AS chosen,
    avg(rejected_score) AS rejected,
    avg(chosen_score - rejected_score) AS gap,
    quantile_cont(chosen_score - rejected_score, 0.1) AS p10,
    quantile_cont(chosen_score - rejected_score, 0.9) AS p90,
    gap - lag(gap) OVER (ORDER BY length(model), model) AS change,
FROM pairs
GROUP BY model
ORDER BY length(model), model
