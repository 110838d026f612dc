-- Which model is strongest, by which judge? Elo by Bradley and Terry's model (the mean is 1000, 400 points are odds of 10 to 1), and each model's share of the points against the others, a tie is half; constant is its share against one text as the answer to everything: below half, the judge is gameable.
-- by: judge, decoding, model
-- may lack: tournament
WITH sides AS (
    SELECT judge, decoding, model, other, verdict FROM tournament
    UNION ALL
    SELECT judge, decoding, other, model, CASE verdict WHEN 'win' THEN 'lose' WHEN 'lose' THEN 'win' ELSE verdict END FROM tournament
), points AS (
    SELECT *, other = 'constant' AS canary, CASE verdict WHEN 'win' THEN 1.0 WHEN 'tie' THEN 0.5 WHEN 'lose' THEN 0.0 END AS point
    FROM sides WHERE model <> 'constant'
), counts AS (
    SELECT
        judge, decoding, model,
        count(point) FILTER (NOT canary) AS n,
        count(*) FILTER (NOT canary) - n AS unreadable,
        count(*) FILTER (NOT canary AND verdict = 'win') AS wins,
        count(*) FILTER (NOT canary AND verdict = 'tie') AS ties,
        count(*) FILTER (NOT canary AND verdict = 'lose') AS losses,
        avg(point) FILTER (NOT canary) AS points,
        avg(point) FILTER (canary) AS constant,
    FROM points GROUP BY ALL
)
SELECT counts.judge, counts.decoding, counts.model, value AS elo, low, high, points, counts.n, wins, ties, losses, unreadable, constant
FROM counts LEFT JOIN metrics ON kind = 'tournament' AND name = counts.judge AND metric = counts.decoding || '.elo.' || counts.model
ORDER BY counts.judge, counts.decoding, elo DESC, counts.model
