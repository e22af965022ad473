-- SPDX-License-Identifier: Apache-2.0
-- Not run while a table of these names holds rows, whoever made it. Stop the relay first: what it inserts between two
-- statements is not seen.

SELECT throwIf(countIf(ifNull(total_rows, 1) > 0) > 0, 'a table of the sample still holds rows: if nobody needs them, TRUNCATE the tables landing_* that this sample has made')
FROM system.tables WHERE database = currentDatabase()
AND name IN ('landing_posts', 'landing_likes', 'landing_follows', 'landing_likes_hourly', 'landing_followers_daily') FORMAT Null;
DROP VIEW IF EXISTS landing_followers_daily_mv;
DROP VIEW IF EXISTS landing_likes_hourly_mv;
DROP TABLE IF EXISTS landing_followers_daily;
DROP TABLE IF EXISTS landing_likes_hourly;
DROP TABLE IF EXISTS landing_follows;
DROP TABLE IF EXISTS landing_likes;
DROP TABLE IF EXISTS landing_posts;
