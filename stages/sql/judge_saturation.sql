-- Does the judge still tell answers apart? Its commonest score and that score's share of what could be read, the share of full marks, and of the unreadable.
-- by: model, judge
WITH bins AS (SELECT model, judge, score, count(*) AS n FROM judgements GROUP BY model, judge, score)
SELECT
    model,
    judge,
    sum(n)::BIGINT AS judgements,
    arg_max(score, (n, score)) FILTER (score IS NOT NULL) AS commonest,
    max(n) FILTER (score IS NOT NULL) / sum(n) FILTER (score IS NOT NULL) AS commonest_share,
    coalesce(sum(n) FILTER (score = coalesce(getvariable('best_score'), 5)), 0) / sum(n) FILTER (score IS NOT NULL) AS full_marks,
    count(*) FILTER (score IS NOT NULL) AS distinct_scores,
    coalesce(sum(n) FILTER (score IS NULL), 0) / sum(n) AS unreadable,
FROM bins
GROUP BY model, judge
ORDER BY length(model), model, judge
