-- How far has the loop come? What each model wrote, answered and judged, who judged it, and the pairs that came of it.
-- may lack: prompts, candidates, judgements, pairs
-- by: model
SELECT model, prompts, candidates, judgements, judge, pairs FROM
    (SELECT model FROM prompts UNION SELECT model FROM candidates UNION SELECT model FROM pairs)
    LEFT JOIN (SELECT model, count(*) AS prompts FROM prompts WHERE dropped IS NULL GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS candidates FROM candidates GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS judgements, string_agg(DISTINCT judge, ', ' ORDER BY judge) AS judge FROM judgements GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS pairs FROM pairs GROUP BY model) USING (model)
ORDER BY length(model), model
