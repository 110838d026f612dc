-- Is M3 better than M1? Every metric of every model, of n prompts, pairs or answers, with its 95 % interval where n is large enough for one.
-- by: model, metric
SELECT model, metric, value, low, high, n
FROM metrics
WHERE kind = 'EVAL' AND (metric LIKE 'writer.%' OR metric LIKE 'judge.%' OR metric LIKE 'trust.%')
ORDER BY metric, model <> 'SFT', length(model), model
