-- Where did the prompts go? Filtered when written, or without a pair when judged; the rows of a model add up to its row `all`.
-- by: model, reason
WITH ends AS (
    SELECT
        model, prompt_id,
        bool_or(fate = 'chosen') AS paired, bool_or(fate = 'tied') AS tied, bool_or(fate = 'unreadable') AS unreadable,
        bool_or(fate = 'inconsistent') AS inconsistent, bool_or(fate = 'capped') AS capped,
        bool_or(fate = 'withdrawn') AS withdrawn
    FROM scores
    GROUP BY model, prompt_id
), reasons AS (
    SELECT
        prompts.model,
        CASE
            WHEN dropped IS NOT NULL THEN 'dropped: ' || dropped
            WHEN ends.prompt_id IS NULL THEN 'kept: no answers'
            WHEN paired THEN 'kept: gave a pair'
            WHEN tied THEN 'kept: scores too close'
            WHEN inconsistent THEN 'kept: judges disagree'
            WHEN capped THEN 'kept: enough pairs of its cluster'
            WHEN withdrawn THEN 'kept: dropped by a person'
            WHEN unreadable THEN 'kept: no readable score'
            ELSE 'kept: every answer cut off'
        END AS reason
    FROM prompts LEFT JOIN ends ON ends.model = prompts.model AND ends.prompt_id = prompts.prompt_id AND dropped IS NULL
)
SELECT model, coalesce(reason, 'all') AS reason, count(*) AS prompts, count(*) / max(count(*)) OVER (PARTITION BY model) AS share
FROM reasons
GROUP BY GROUPING SETS ((model, reason), (model))
ORDER BY length(model), model, GROUPING(reason), reason
